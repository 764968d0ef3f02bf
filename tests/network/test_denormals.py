"""Saturated, dead and fading networks store no denormal numbers, and compute with none in training.

A denormal number is not zero and is smaller than the smallest normal number. It is slow on many processors.
Weights are not set to zero; only useless networks with tiny weights can compute with denormal numbers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import sys
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
from helpers import CELLS, parts_of
from helpers.contract import call

from fastrnn import Network, Trainer
from fastrnn.core.constants import TINY
from fastrnn.data.batches import Batch
from fastrnn.optimizers import OPTIMIZERS as EVERY_KIND
from fastrnn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

T, B, V, H = 48, 5, 20, 37

#: Optimizers whose moments fade within a few updates.
FORGETFUL = Adam(betas=(0.3, 0.3))


# ---- Sick networks: saturated, dead, fading and others --------------------------------------------------


def healthy(network: Network) -> None:
    """Leave the weights as they were drawn."""


def saturated(network: Network) -> None:
    """Make weights so large that most states are 1 or -1 and gradients explode."""
    network.flat *= 300


def set_biases(network: Network, value: Any) -> None:
    """Set the bias of every gate of every layer to a vector (H) or a number."""
    for name, parameter in network.parameters.items():
        if name.startswith("bias_l"):
            parameter.reshape(-1, H)[...] = value


def biased(network: Network) -> None:
    set_biases(network, 30)


def closed(network: Network) -> None:
    """Close some gates, and open others more or less."""
    biases = np.linspace(0.3 * np.log(TINY[network.dtype.name]), 0, H)
    biases[::3] = 2.2 * np.log(TINY[network.dtype.name])
    set_biases(network, biases)


def ajar(network: Network) -> None:
    """Open all gates only so far that they are just not tiny."""
    set_biases(network, 0.99 * np.log(TINY[network.dtype.name]))


def sure(network: Network) -> None:
    """Make all symbols but one almost impossible, and gradients huge."""
    network.parameters["embedding.weight" if network.tied else "head.weight"][...] *= 1000


def dead(network: Network) -> None:
    network.flat[...] = 0


def tiny(network: Network) -> None:
    """Make weights so small that states are tiny, and zero after one or two steps."""
    network.flat *= 1000 * TINY[network.dtype.name]


def vanishing(network: Network) -> None:
    """Divide gradients and states by a million at each step."""
    for name, parameter in network.parameters.items():
        if name.startswith("weight_hh"):
            parameter[...] *= 1e-6


def fading(network: Network) -> None:
    """Let the state shrink at each step, without any input."""
    network.flat[...] = 0
    for name, parameter in network.parameters.items():
        if name.startswith("weight_hh"):
            parameter.reshape(-1, H, H)[...] = 1e-8 * np.eye(H)


def faint(network: Network) -> None:
    """Make states and some probabilities just not tiny."""
    least = TINY[network.dtype.name]
    network.flat[...] = 0
    for name, parameter in network.parameters.items():
        if name.startswith(("weight_ih", "embedding")):
            parameter[...] = 1.4 * least
    network.parameters["head.bias"][...] = np.linspace(np.log(1.1 * least), 0, V)


SICK: tuple[Callable[[Network], None], ...] = (
    saturated, biased, closed, ajar, sure, dead, tiny, vanishing, fading, faint,
)  # fmt: skip
MASKED = (vanishing, fading)

#: The kinds that need a network with gates.
GATED = (closed, ajar)


#: The networks other than the plain one, by name.
NETWORKS: dict[str, dict[str, Any]] = {
    **{name: settings for name, settings in CELLS.items() if name != "tanh"},
    "layers": {"num_layers": 2, "embedding_size": 9, "dropout": 0.3},
    "relu layers": {"activation": "relu", "num_layers": 2, "embedding_size": H, "tied": True},
    "gru layers": {"cell": "gru", "num_layers": 2, "dropout": 0.3},
    "lstm layers": {"cell": "lstm", "num_layers": 3, "embedding_size": H, "tied": True, "dropout": 0.3},
}


def makes_sense(which: str, kind: Callable[[Network], None]) -> bool:
    """Whether a network can be sick in this way.

    A relu does not saturate: with large weights it explodes. A layer of tiny weights multiplies the gradients
    of the layer below by them, so such a network is useless.
    """
    exploding = which.startswith("relu") and kind in {saturated, sure}
    has_gates = NETWORKS[which].get("cell", "rnn") != "rnn"
    deep = which.endswith("layers")
    return (has_gates or kind not in GATED) and not exploding and not (deep and kind is tiny)


OTHERS = [
    pytest.param(which, kind, id=f"{which}-{kind.__name__}")
    for which in NETWORKS
    for kind in (healthy, *SICK)
    if makes_sense(which, kind)
]


def make(kind: Callable[[Network], None], **settings: Any) -> Network:
    network = Network(V, H, threads=1, initialization="uniform", rng=0, **settings)
    kind(network)
    return network


def window(kind: Callable[[Network], None]) -> tuple[Any, Any]:
    """Inputs and targets; for the kinds in MASKED, only the last step has targets."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, V, (2, T, B))
    if kind in MASKED:
        targets[:-1] = -1
    return inputs, targets


def trainer_of(kind: Callable[[Network], None], optimizer: Optimizer, **settings: Any) -> Trainer:
    """A trainer whose first state is ones."""
    network = make(kind, **settings)
    trainer = Trainer(network, optimizer=optimizer, learning_rate=1e-3, clip_norm=5.0, reduction="mean")
    trainer.state = ones(network)
    return trainer


def ones(network: Network) -> Any:
    """A state of ones."""
    return network.public_state(np.ones((network.shape.Z, network.num_layers, B, H)))


def arrays_of(trainer: Trainer) -> list[Any]:
    """The arrays that a trainer keeps."""
    return [*parts_of(trainer.state), trainer._gradients, trainer._moments, trainer._average]


# ---- What is denormal ------------------------------------------------------------------------------------


def denormals(array: Any) -> int:
    """How many elements of an array are denormal."""
    return int(np.count_nonzero((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)))


class Watch:
    """Records whether a kernel had a denormal operand or an underflow in this thread.

    It reads the floating-point flags of x86 with glibc; on other systems it records nothing.
    """

    WORKS = platform.machine() == "x86_64" and sys.platform == "linux"
    DENORMAL, UNDERFLOW, ALL = 2, 16, 63

    def __init__(self, network: Network, kernel: str) -> None:
        self._libm = ctypes.CDLL(ctypes.util.find_library("m")) if self.WORKS else None
        self._backend, self._name = network.backend, kernel
        self._kernel = getattr(network.backend, kernel)
        self.met = 0

    def __enter__(self) -> Self:
        """Begin. Numba must have compiled the kernel before."""
        vars(self._backend)[self._name] = self._watched
        return self

    def __exit__(self, *error: object) -> None:
        del vars(self._backend)[self._name]

    def _watched(self, **arguments: Any) -> None:
        if not self._libm:
            self._kernel(**arguments)
            return
        environment = np.zeros(8, np.uint32)  # glibc's fenv_t, whose last word is the register MXCSR
        address = ctypes.c_void_p(environment.ctypes.data)
        self._libm.fegetenv(address)
        environment[7] &= ~np.uint32(self.ALL)
        self._libm.fesetenv(address)
        self._kernel(**arguments)
        self._libm.fegetenv(address)
        self.met |= int(environment[7]) & (self.DENORMAL | self.UNDERFLOW)


watchable = pytest.mark.skipif(not Watch.WORKS, reason="it reads the flags of x86 with glibc")
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
dtypes_of_many = pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)]
)
kinds = pytest.mark.parametrize(
    "kind", [healthy, *(kind for kind in SICK if kind not in GATED)], ids=lambda kind: kind.__name__
)
OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.3),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adagrad": Adagrad(),
    "rmsprop": RMSprop(),
    "forgetful rmsprop": RMSprop(alpha=0.3),
    "adam": Adam(),
    "forgetful adam": FORGETFUL,
    "adamw": AdamW(),
}
optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def test_every_optimizer_is_here():
    assert {type(optimizer) for optimizer in OPTIMIZERS.values()} == set(EVERY_KIND.values())


def fill_and_fade(trainer: Trainer, kind: Callable[[Network], None]) -> None:
    """Do updates with little and much clipping, and then updates without targets until moments fade."""
    inputs, targets = window(kind)
    for trainer.clip_norm in (5.0, 1e-4):
        for _ in range(20):
            trainer.step(inputs, targets)
    ids = np.zeros((800, B), np.int32)
    nothing = Batch(ids, ids - 1, ids.astype(np.uint8))
    trainer.advance(nothing, 1, 0, np.full(len(ids), trainer.learning_rate))


def fill(trainer: Trainer, kind: Callable[[Network], None]) -> None:
    """Train a sick network, check its arrays, let it fade, and check again."""
    inputs, targets = window(kind)
    for _ in range(5):
        trainer.step(inputs, targets)
        assert not any(map(denormals, arrays_of(trainer)))
    fill_and_fade(trainer, kind)
    assert not any(map(denormals, [*parts_of(trainer.state), trainer._moments]))


@kinds
@optimizers
@dtypes_of_many
def test_no_training_meets_a_denormal(
    compiled: str, dtype: str, optimizer: Optimizer, kind: Callable[[Network], None]
):
    """There are none in the arithmetic or in the arrays that a trainer keeps."""
    trainer = trainer_of(kind, optimizer, backend=compiled, dtype=dtype)
    trainer.step(*window(kind))
    with Watch(trainer.network, "train_windows") as watch:
        fill(trainer, kind)
    assert not watch.met


@pytest.mark.parametrize(("which", "kind"), OTHERS)
@dtypes_of_many
def test_no_other_cell_meets_a_denormal(
    compiled: str, dtype: str, which: str, kind: Callable[[Network], None]
):
    """There are none in training, in the arrays that a trainer keeps, or in scoring."""
    trainer = trainer_of(kind, FORGETFUL, backend=compiled, dtype=dtype, **NETWORKS[which])
    network, (inputs, targets) = trainer.network, window(kind)
    trainer.step(inputs, targets)
    trainer.state = ones(network)
    with Watch(network, "train_windows") as watch:
        fill(trainer, kind)
    assert not watch.met
    kind(network)
    network.losses(inputs, targets)
    with Watch(network, "network_losses") as watch:
        network.losses(inputs, targets, ones(network))
    assert not watch.met


@kinds
@dtypes
def test_no_arithmetic_of_a_scoring_meets_a_denormal(
    compiled: str, dtype: str, kind: Callable[[Network], None]
):
    network = make(kind, backend=compiled, dtype=dtype)
    network.losses(*window(kind), state=ones(network))
    with Watch(network, "network_losses") as watch:
        network.losses(*window(kind), state=ones(network))
    assert not watch.met


#: Scales of a gradient in float32: 1, and scales that make some, most or all elements tiny.
SCALES = (1.0, 0.3, 2.0**-20, 2.0**-60, 2.0**-100, 2.0**-120)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), Adagrad(), RMSprop(), Adam()], ids=repr)
@dtypes
def test_no_update_computes_with_what_it_makes_zero(compiled: str, dtype: str, optimizer: Optimizer):
    """Gradients have all sizes that are not tiny, in whole vectors and in parts of vectors."""
    network, kernel = Network(3, 2, backend=compiled, dtype=dtype), f"{optimizer.name}_update"
    row = optimizer.settings(np.array([1e-3]), 0)[0]
    for n in (1, 15, 16, 35, 500):
        exponents = np.random.default_rng(n).uniform(np.log2(TINY[dtype]), 2, n)
        gradients = (2.0**exponents).astype(dtype)
        gradients[::2] *= -1
        for scale in SCALES if dtype == "float32" else np.power(SCALES, 8):
            params, moments = np.ones(n, dtype), np.zeros((optimizer.moments, n), dtype)
            arguments = params, moments, gradients, row, 5.0, scale, 0, n, n
            call(network.backend, kernel, arguments)
            moments[...] = 0
            with Watch(network, kernel) as watch:
                call(network.backend, kernel, arguments)
            assert not watch.met
            assert not denormals(moments)


@watchable
@pytest.mark.parametrize(
    ("weight", "learning_rate"), [(1e-40, 1e-3), (0.0, 1e-30)], ids=["operand", "result"]
)
def test_the_watch_sees_denormals(compiled: str, weight: float, learning_rate: float):
    network = Network(3, 2, backend=compiled)
    weights, moments = np.full(1, weight, np.float32), np.empty((0, 1), np.float32)
    settings = np.array([learning_rate, 0, 0, 0, 0, 0])
    with Watch(network, "sgd_update") as watch:
        network.backend.sgd_update(
            params=weights,
            moments=moments,
            grads=np.full(1, 1e-15, np.float32),
            settings=settings,
            limit=1.0,
            scale=1.0,
            begin=0,
            end=1,
            n=1,
        )
    assert watch.met
