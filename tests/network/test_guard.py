"""Users, their threads and their objects cannot crash a network or a trainer, or make it give wrong results.

Programs that could crash run in their own processes, with a time limit.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import operator
import pickle
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from helpers import CELLS, Window, parts_of

import fastrnn
from fastrnn import Network, Trainer
from fastrnn.core import checks, memory, thread_team
from fastrnn.core.layout import parameter_layout
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference import scoring
from fastrnn.network import config, execution, network
from fastrnn.network.execution import Cost
from fastrnn.training import pace

#: After so many seconds a process counts as hanging; Numba's compilation takes most of the time.
LIMIT = 240


def run(program: str, backend: str, folder: Path) -> str:
    """Return what a program prints; fail if it crashes or does not end in time."""
    source = f"BACKEND = {backend!r}\n{textwrap.dedent(program)}"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=LIMIT, check=False, cwd=folder
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- Attributes and methods --------------------------------------------------------------------------

#: Sets and deletes every public attribute and calls every method, with wrong values; then checks the results.
ATTACK = """
import inspect, sys
import numpy as np
import fastrnn
from fastrnn import Network, Trainer
from fastrnn.core.layout import Layout

ids = np.random.default_rng(0).integers(0, 5, (2, 3))
wide = np.broadcast_to(np.int32(0), (10**13, 1))
model = fastrnn.train("abcda" * 40, hidden_size=8, steps=2, backend=BACKEND, rng=0, progress=False)

data = model.to_bytes()

def make():
    settings = {"cell": "lstm", "dropout": 0.5, "initialization": "uniform"}  # uniform is drawn fastest
    trainer = Trainer(Network(5, 8, **settings, backend=BACKEND, rng=0), averaging=0.5)
    trainer.step(ids, ids)
    return trainer

def of_trainer(trainer):
    \"\"\"The results of a trainer and its network; the state is reset, since it may be set.\"\"\"
    network = trainer.network
    trainer.reset_state()
    found = [network.forward(ids)[0], network.losses(ids, ids)[0], trainer.averaged_network.forward(ids)[0]]
    trainer.dropout_seed = 0
    return [array.tobytes() for array in found], trainer.step(ids, ids)

def of_model(model):
    return model.surprisal("abcda").tobytes(), model.sample(5, rng=0)

def hostile(network):
    yield from (-5, 0, 3, 10**25, float("nan"), float("inf"), "x", b"x", None, True, [], {}, (), object())
    yield from (np.zeros(3, "f4"), np.zeros(network.flat.size, "f4"), network.flat[::-1], network.flat[::2])
    yield from (wide, wide.T, np.zeros((1, 4, 8)), np.full((1, 4, 8), np.nan), np.int64(2**62))
    yield from (Network(7, 70, backend=BACKEND), Network(5, 8, dtype="float64", backend=BACKEND))
    yield from (Network(7, 70, backend=BACKEND).shape, Layout(()), np.dtype("float64"), fastrnn.Trainer)
    yield from (fastrnn.get_backend("numpy"), fastrnn.optimizers.SGD(), lambda *_, **__: np.zeros(1))

def is_settable(thing, name):
    found = getattr(type(thing), name, None)
    return isinstance(found, property) and found.fset is not None

VALUES = [*hostile(make().network)]
KINDS = {  # how to make one, the object to attack, and its results
    "network": (make, lambda trainer: trainer.network, of_trainer),
    "trainer": (make, lambda trainer: trainer, of_trainer),
    "model": (lambda: fastrnn.Model.from_bytes(data, backend=BACKEND), lambda model: model, of_model),
}
tried = refused = 0
for kind, (fresh, target, results) in KINDS.items():
    expected = results(fresh())
    names = [name for name in dir(target(fresh())) if not name.startswith("_")]
    for name in [*names, "anything", "__class__", "__dict__", "__init__"]:
        for value in [*VALUES, ...]:  # ... deletes the attribute
            print(kind, name, tried, flush=True)
            tried += 1
            whole = fresh()
            thing = target(whole)
            try:
                delattr(thing, name) if value is ... else setattr(thing, name, value)
            except (AttributeError, TypeError, ValueError, MemoryError) as error:
                assert str(error)
                refused += 1
            else:
                assert is_settable(thing, name) or name in ("settings", "history"), (kind, name, value)
            assert results(whole) == expected, (kind, name, value)
    for name in names:
        if not inspect.ismethod(getattr(target(fresh()), name)):
            continue
        parameters = inspect.signature(getattr(target(fresh()), name)).parameters.values()
        for value in VALUES:
            print(kind, name, tried, flush=True)
            tried += 1
            whole = fresh()
            arguments = {p.name: value for p in parameters if p.kind != p.VAR_KEYWORD}
            try:
                getattr(target(whole), name)(**arguments)
            except Exception as error:
                assert str(error), (kind, name, value)
                refused += 1
            assert results(whole) == expected, (kind, name, value)
print("tried", tried, "refused", refused)
assert refused > tried / 2
"""


def test_no_attribute_and_no_argument_ends_the_process(backend: str, tmp_path: Path):
    run(ATTACK, backend, tmp_path)


@pytest.mark.parametrize("name", ["network", "_optimizer", "_moments", "_average", "_parameters"])
def test_what_a_trainer_relies_on_is_set_once(name: str):
    trained = Trainer(Network(5, 8, backend="numpy"))
    with pytest.raises(AttributeError, match=f"{name} of a Trainer cannot be set: make another Trainer"):
        setattr(trained, name, getattr(trained, name))


def test_a_network_s_vector_is_written_to_and_not_replaced(backend: str):
    net = Network(5, 8, backend=backend, rng=0)
    before = net.flat.copy()
    net.flat *= 2
    np.testing.assert_array_equal(net.flat, 2 * before)
    net.flat[...] = before
    np.testing.assert_array_equal(
        net.parameters["head.weight"], Network(5, 8, rng=0).parameters["head.weight"]
    )
    for value in (before, net.flat[::-1], net.flat[:3], net.flat.view(np.int32), 3):
        with pytest.raises(
            AttributeError, match=r"flat of a Network cannot be set: write into it, network\.flat"
        ):
            net.flat = value
    view = net.flat
    view.shape = (-1, 1)  # only the view's shape changes
    assert net.flat.shape == before.shape


def test_memory_that_is_handed_out_cannot_be_resized():
    trained = Trainer(Network(5, 8, backend="numpy"), averaging=0.5)
    for view in (
        trained.network.flat,
        trained.averaged_network.flat,
        trained.network.parameters["head.weight"],
        trained.averaged_network.parameters["head.bias"],
    ):
        array: Any = view
        while isinstance(array, np.ndarray):
            with pytest.raises(ValueError, match="does not own its data"):
                array.resize(10**6, refcheck=False)
            array = array.base


def test_parameters_of_memory_that_others_own_are_refused():
    net = Network(5, 8, backend="numpy", dtype="float64")
    with pytest.raises(ValueError, match="memory that others can free"):
        net.with_parameters(net.flat.copy())
    lasting = memory.lasting(2 * net.flat.size, net.dtype)
    for wrong in (lasting, lasting[::2], lasting[: net.flat.size].view(np.int64), lasting[:3]):
        with pytest.raises(ValueError, match="flat must be a C-contiguous, writable array of float64"):
            net.with_parameters(wrong)
    assert np.shares_memory(net.with_parameters(lasting[: net.flat.size]).flat, lasting)


def test_a_sealed_object_has_what_its_class_declares():
    class Base(checks.Sealed):
        once: Final[int]
        often: int

        def __init__(self) -> None:
            self.once, self.often, self._private = 1, 2, 3

        @property
        def read(self) -> int:
            return 4

        @property
        def both(self) -> int:
            return self._private

        @both.setter
        def both(self, value: int) -> None:
            self._private = value

    class More(Base):
        more: int

    thing = More()
    thing.often = thing.more = thing.both = 5
    assert (thing.once, thing.often, thing.more, thing.both) == (1, 5, 5, 5)
    for name in ("once", "read", "other", "__init__", "__class__", "__dict__"):
        with pytest.raises(AttributeError):
            setattr(thing, name, 6)
    for name in ("once", "often", "both", "_private"):
        with pytest.raises(AttributeError, match="cannot be deleted"):
            delattr(thing, name)
    for name in ("once", "read", "both"):
        with pytest.raises(TypeError, match=f"may not replace {name}"):
            type("Replaced", (More,), {name: 1})


@pytest.mark.parametrize("kind", [Network, Trainer, fastrnn.Model])
def test_a_subclass_replaces_nothing_that_kernels_rely_on(kind: type):
    for name in ("network", "shape", "flat", "updates", "counts"):
        if name in kind._declared or hasattr(kind, name):
            with pytest.raises(TypeError, match=f"may not replace {name}"):
                type("Replaced", (kind,), {name: property(lambda _: None)})


# ---- Copies and pickles ------------------------------------------------------------------------------


def copies(thing: Any) -> list[Any]:
    return [pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)]


def test_a_copied_trainer_goes_on_with_the_same_bits(backend: str):
    window = Window.random(6, 3, 5, 8, cell="lstm")
    settings = {"cell": "lstm", "dropout": 0.3, "backend": backend, "threads": 3, "rng": 0}
    trained = Trainer(
        Network(5, 8, **settings), averaging=0.9, clip_norm=1.0, dropout_seed=7, optimizer="adamw"
    )
    trained.step(window.inputs, window.targets)
    for again in copies(trained)[:2]:
        assert again.network is not trained.network
        assert again.network.threads == 3
        assert repr(again) == repr(trained)
        assert again.gradient_norm == trained.gradient_norm
        found = []
        for each in (again, copy.deepcopy(trained)):
            losses = [each.step(window.inputs, window.targets) for _ in range(3)]
            parts = each.network.flat, each.averaged_network.flat, *parts_of(each.state)
            found.append((losses, [part.tobytes() for part in parts]))
        assert found[0] == found[1]
    assert copy.copy(trained).network is trained.network


def test_a_copied_network_has_parameters_of_its_own():
    net = Network(5, 8, backend="numpy", threads=3)
    for again in copies(net):
        np.testing.assert_array_equal(again.flat, net.flat)
        assert not np.shares_memory(again.flat, net.flat)
        assert again.threads == 3
        assert memory.is_lasting(again.flat)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("moments", np.zeros((1, 3))),
        ("average", np.zeros((1, 3))),
        ("parameters", np.zeros(3)),
        ("updates", np.array(-5)),
        ("updates", np.array(1.5)),
        ("state", np.zeros((1, 1, 2, 9))),
        ("arguments", {"network": None}),
        ("arguments", {}),
    ],
)
def test_what_a_pickle_brings_is_checked(key: str, value: object):
    trained = Trainer(Network(5, 8, backend="numpy"))
    state = trained.__getstate__()
    if key == "arguments":
        state[key] = value
    else:
        state["arrays"][key] = value
    with pytest.raises((TypeError, ValueError)):
        object.__new__(Trainer).__setstate__(state)
    with pytest.raises(AttributeError, match="network of a Trainer cannot be set"):
        trained.__setstate__(trained.__getstate__())


def test_a_network_s_pickle_is_checked():
    function, (kind, arguments, flat) = Network(5, 8, backend="numpy").__reduce__()
    for wrong in ((kind, arguments, flat[:3]), (kind, {**arguments, "hidden_size": 9}, flat)):
        with pytest.raises(ValueError, match="flat has shape"):
            function(*wrong)
    with pytest.raises(ValueError, match="hidden_size=-1"):
        function(kind, {**arguments, "hidden_size": -1}, flat)


# ---- Threads that write meanwhile --------------------------------------------------------------------

#: A thread writes invalid values to an argument while another thread calls; each call is right or an error.
WRITER = """
import threading, time
import numpy as np
from fastrnn import Network, Trainer

a = np.zeros((400, 16), np.int32)
starts = np.zeros((400, 16), np.uint8)
network = Network(50, 16, backend=BACKEND, threads=1, rng=0)
trainer = Trainer(network, learning_rate=1e-9)
state = np.zeros((1, 16, 16), np.float32)

def ids():
    a[100:300] = 2**31 - 1
    a[100:300] = 0
    a[0] = a[-1] = -(2**31)
    a[0] = a[-1] = 0

def flags():
    starts[...] = 255
    starts[...] = 0

def states():
    state[...] = np.nan
    state[...] = 0

def settings():
    trainer.state = np.zeros((1, 900, 16))
    trainer.clip_norm = 1e-9
    trainer.reset_state()
    trainer.clip_norm = None

calls = {
    "step": (ids, lambda: trainer.step(a, a)),
    "steps": (ids, lambda: trainer.steps(a, 25)),
    "gradients": (ids, lambda: network.loss_and_gradients(a, a)),
    "losses": (ids, lambda: (network.losses(a, a), network.forward(a))),
    "starts": (flags, lambda: trainer.steps(np.zeros((401, 16), np.int32), 25, starts)),
    "state": (states, lambda: network.losses(np.zeros_like(a), np.zeros_like(a), state)),
    "settings": (settings, lambda: trainer.steps(np.zeros((401, 16), np.int32), 25)),
}
for name, (write, call) in calls.items():
    print(name, flush=True)
    try:
        call()
    except ValueError:
        pass
    over = threading.Event()

    def writing():
        while not over.is_set():
            write()

    thread = threading.Thread(target=writing, daemon=True)
    thread.start()
    began = time.monotonic()
    while time.monotonic() - began < 0.4:
        try:
            call()
        except ValueError:
            pass
    over.set()
    thread.join()
    trainer.reset_state()
"""


def test_a_thread_that_writes_to_an_argument_meanwhile_ends_nothing(backend: str, tmp_path: Path):
    run(WRITER, backend, tmp_path)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_ids_are_copied_before_they_are_checked(dtype: type):
    array = np.arange(12, dtype=dtype).reshape(4, 3)
    for piece in (100, 5, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checks, "COPIED_AT_ONCE", piece)
            for given in (array, array[:, ::-1], array.T, np.broadcast_to(array[:1], (4, 3))):
                copied = checks.private_copy("ids", given, np.int32, 0, 11)
                np.testing.assert_array_equal(copied, given)
                assert copied.flags.carray
                assert not np.shares_memory(copied, array)
            with pytest.raises(ValueError, match=r"ids runs from .* to 11; it must be within 0 … 10"):
                checks.private_copy("ids", array, np.int32, 0, 10)


# ---- Random generators that the user wrote -----------------------------------------------------------


class Dishonest(np.random.Generator):
    """A generator that returns what a given function returns."""

    def __init__(self, answer: Any) -> None:
        super().__init__(np.random.PCG64(0))
        self._answer = answer

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return self._answer(size)


ANSWERS = {
    "too few": lambda n: np.full(max(0, n - 1), 0.5),
    "too many": lambda n: np.full(n + 1, 0.5),
    "one": lambda _: 0.5,
    "a float32": lambda n: np.full(n, 0.5, np.float32),
    "a str": lambda n: ["x"] * n,
    "not a number": lambda n: np.full(n, np.nan),
    "above": lambda n: np.full(n, 1.0),
    "below": lambda n: np.full(n, -1e-300),
    "infinite": lambda n: np.full(n, -np.inf),
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_draws_that_are_none_are_refused(backend: str, answer: Any):
    net, rng = Network(5, 8, backend=backend), Dishonest(answer)
    with pytest.raises((ValueError, TypeError), match=r"rng\.random"):
        net.sample(20, 0, net.checked_state(None, 1), temperature=1.0, rng=rng)
    model = fastrnn.Model.from_bytes(
        fastrnn.train("abcab", steps=1, backend="numpy").to_bytes(), backend=backend
    )
    with pytest.raises((ValueError, TypeError), match=r"rng\.random"):
        model.sample(20, rng=rng)


def test_draws_that_are_sound_are_taken():
    expected = np.random.default_rng(0).random(20)
    actual = checks.uniforms(Dishonest(lambda n: np.random.default_rng(0).random(n)), 20)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(
        checks.uniforms(np.random.RandomState(0), 3), np.random.RandomState(0).random_sample(3)
    )


class Three(int):
    """A subclass of int."""


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.int16(3), Three(3)])
def test_any_whole_number_is_the_int(seed: Any):
    expected = checks.random_generator(3).random(4)
    np.testing.assert_array_equal(checks.random_generator(seed).random(4), expected)
    whole = checks.whole_number("n", seed)
    assert (whole, type(whole)) == (3, int)
    np.testing.assert_array_equal(Network(5, seed, rng=seed).flat, Network(5, 3, rng=3).flat)
    for wrong in (True, np.True_, 3.0, Fraction(3), "3", None):
        with pytest.raises(TypeError, match="must be a whole number"):
            checks.whole_number("n", wrong)


# ---- Sizes that are too large ------------------------------------------------------------------------

NINES = int("9" * 4300) * 10


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hidden_size": 10**10}, MemoryError, "needs .* PB, and"),
        ({"hidden_size": NINES}, ValueError, "hidden_size=<int without a repr> must be"),
        ({"embedding_size": 10**12}, MemoryError, "needs .* TB, and"),
        ({"vocab_size": 1 << 31}, ValueError, "vocab_size=2147483648 must be at most 2147483647"),
        ({"num_layers": NINES}, ValueError, "num_layers=<int without a repr> must be below"),
        ({"threads": 10**25}, ValueError, "threads=10000000000000000000000000 must be at most 1024"),
        ({"threads": 1025}, ValueError, "threads=1025 must be at most 1024"),
        ({"dropout": NINES}, ValueError, "dropout=<int without a repr> must be"),
        ({"rng": "x" * 10**6}, TypeError, "^.{1,400}$"),
    ],
)
def test_an_argument_beyond_all_bounds_is_refused(arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        Network(**{"vocab_size": 5, "hidden_size": 8, "backend": "numpy", **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hidden_size": 10**10}, MemoryError, "hidden_size=10000000000 .*needs"),
        ({"threads": 10**25}, ValueError, "threads="),
        ({"epochs": 10**30}, ValueError, "epochs=.* must be below"),
        ({"steps": NINES}, ValueError, "steps=<int without a repr> must be below"),
        ({"learning_rate": NINES}, ValueError, "learning_rate=<int without a repr>"),
    ],
)
def test_training_beyond_all_bounds_is_refused(arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        fastrnn.train("hello" * 50, backend="numpy", **arguments)


@pytest.mark.parametrize("shape", [(10**13, 1), (1, 10**13), (10**18, 1), (10**7, 10**7)])
def test_a_window_that_cannot_fit_is_refused_before_it_is_read(backend: str, shape: tuple[int, int]):
    net = Network(5, 8, cell="lstm", backend=backend)
    trained = Trainer(net)
    ids = np.broadcast_to(np.int64(7), shape)  # invalid ids; the size is refused before they are read
    for call in (
        lambda: net.forward(ids),
        lambda: net.losses(ids, ids),
        lambda: net.loss_and_gradients(ids, ids),
        lambda: net.forward(ids, starts=np.broadcast_to(np.int8(9), shape)),
        lambda: trained.step(ids, ids),
        lambda: trained.steps(np.broadcast_to(np.int64(7), (shape[0] + 1, shape[1])), 10),
    ):
        with pytest.raises(MemoryError, match="needs .*B, "):
            call()
    with pytest.raises(MemoryError, match="a state of 1000000000000 rows needs"):
        trained.state = (np.broadcast_to(np.float32(np.nan), (1, 10**12, 8)),) * 2


def test_numbers_without_memory_of_their_own_are_refused_before_they_are_read():
    """With strides of zero, an array of any size takes almost no memory."""
    wide, tokens = np.broadcast_to(7, 10**12), TokenVocabulary.of_count(5)
    net = Network(5, 8, backend="numpy")
    model = fastrnn.Model(net, tokens, np.ones(5, int))
    for call in (
        lambda: tokens.encode(wide),
        lambda: model.surprisal(wide),
        lambda: model.log_prob(wide),
        lambda: model.score_many([wide]),
        lambda: Network.from_torch_state_dict({"weight_ih_l0": np.broadcast_to(0.1, (10**6, 10**6))}),
    ):
        with pytest.raises(MemoryError, match="needs .*B, "):
            call()
    for vocabulary in (Vocabulary("character", wide), TokenVocabulary("token", wide)):
        with pytest.raises(ValueError, match="the vocabulary has 1000000000000"):
            fastrnn.Model(net, vocabulary, np.ones(5))
    with pytest.raises(ValueError, match="counts has shape"):
        fastrnn.Model(net, tokens, wide)


def test_long_tokens_are_scored_and_encoded_in_pieces(monkeypatch: pytest.MonkeyPatch):
    model = fastrnn.train(np.arange(300) % 5, vocabulary=5, hidden_size=8, steps=2, rng=0, progress=False)
    tokens = np.random.default_rng(0).integers(0, 5, 97)
    expected = model.surprisal(tokens), model.log_prob(tokens), model.vocabulary.encode(tokens)
    wrong = np.append(tokens, 5)
    for piece in (1, 10, 97):
        monkeypatch.setattr(checks, "COPIED_AT_ONCE", piece)
        monkeypatch.setattr(scoring, "SYMBOLS_AT_ONCE", piece)
        found = model.surprisal(tokens), model.log_prob(tokens), model.vocabulary.encode(tokens)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        for call in (model.surprisal, model.vocabulary.encode):
            with pytest.raises(ValueError, match="the token at position 97 is 5"):
                call(wrong)
        assert len(model.surprisal(wrong, unknown="skip")) == 97
        assert model.surprisal(wrong, unknown=0.5)[-1] == 1


def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch):
    resource = pytest.importorskip("resource")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 5_000_000, resource.RLIM_INFINITY))
    assert 0 <= memory.available() <= 5_000_000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory.available() > 5_000_000


# ---- Short calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", CELLS.values(), ids=CELLS)
def test_a_window_in_pieces_has_the_bits_of_the_whole(
    compiled: str, settings: dict, monkeypatch: pytest.MonkeyPatch
):
    net = Network(9, 11, num_layers=2, backend=compiled, rng=0, threads=2, **settings)
    window = Window.of(net, 23, 7)
    called: list[tuple[int, int]] = []
    run_rows = Network._run_rows

    def watched(self: Network, kernel: Any, out: Any, *rest: Any) -> None:
        called.append(out.shape[:2])
        run_rows(self, kernel, out, *rest)

    monkeypatch.setattr(Network, "_run_rows", watched)

    def found() -> list[bytes]:
        called.clear()
        losses, state = net.losses(window.inputs, window.targets, window.state, window.starts)
        logits, after = net.forward(window.inputs, window.state, window.starts)
        return [array.tobytes() for array in (losses, logits, *parts_of(state), *parts_of(after))]

    expected = found()
    assert called == [(23, 7)] * 2
    for calls in (1, 3, 8, 30):  # symbols of a call
        cost = Cost(calls * (net.shape.operations + 1), 0, 0)
        monkeypatch.setattr(execution, "COMPILED", cost)
        monkeypatch.setattr(execution, "WITHOUT_FMA", cost)
        assert found() == expected
        assert len(called) > 2
        assert all(symbols <= calls for symbols in itertools.starmap(operator.mul, called))


@pytest.mark.parametrize("shape", [(10**6, 1), (1, 10**6), (1000, 1000)])
@pytest.mark.parametrize(
    "sizes", [{"hidden_size": 1}, {"hidden_size": 64, "num_layers": 30}, {"vocab_size": 30_000}], ids=str
)
def test_what_a_call_costs_is_bounded(
    backend: str, sizes: dict, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    """A call has one step of a bounded number of rows, or a bounded number of steps."""
    net = Network(
        **{"vocab_size": 5, "hidden_size": 8, "backend": backend, "initialization": "zeros", **sizes}
    )
    called: list[tuple[int, int]] = []
    monkeypatch.setattr(Network, "_run_rows", lambda *arguments: called.append(arguments[2].shape[:2]))
    out, ids = np.broadcast_to(np.float64(0), shape), np.broadcast_to(np.int32(0), shape)
    net._run_forward(net._losses, out, np.empty((1, net.num_layers, shape[1], 0)), ids, ids, ids)
    assert sum(itertools.starmap(operator.mul, called)) == 10**6
    cost = net._cost()
    for T, B in called:
        rows = B * net._cost_of_symbol(cost)
        assert rows <= cost.call
        assert T == 1 or T * (net.num_layers * cost.layer + rows) <= cost.call


#: Ctrl-C comes after some seconds of one window; the program prints how long the reaction took.
LONG_WINDOW = """
import os, signal, threading, time
import numpy as np
from fastrnn import Network, Trainer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
trainer = Trainer(Network(9, 64, cell="lstm", embedding_size=16, backend=BACKEND, threads=1, rng=0))
network, short = trainer.network, np.zeros((3, 3), np.int32)
trainer.step(short, short)  # compiles
network.loss_and_gradients(short, short)
ids = np.broadcast_to(np.int32(3), (100_000, 3))

def strike(seconds):
    time.sleep(seconds)
    struck.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

for seconds in (0.3, 0.8, 1.6):
    for call in (lambda: trainer.step(ids, ids), lambda: network.loss_and_gradients(ids, ids)):
        struck = []
        thread = threading.Thread(target=strike, args=(seconds,))
        thread.start()
        try:
            call()
            assert seconds > 0.3, "the window was short"
            time.sleep(60)
        except KeyboardInterrupt:
            print(time.perf_counter() - struck[0])
        thread.join()
assert np.isfinite(network.flat).all()
trainer.reset_state()
assert trainer.step(short, short) > 0
"""


def test_ctrl_c_is_heard_while_a_window_lasts(compiled: str, tmp_path: Path):
    delays = [float(line) for line in run(LONG_WINDOW, compiled, tmp_path).split()]
    assert len(delays) == 6
    assert max(delays) < 1  # it takes milliseconds on an idle machine


@pytest.mark.parametrize("settings", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize(("T", "B"), [(2, 1061), (433, 5)])
def test_a_window_of_many_rows_is_that_of_the_reference(compiled: str, settings: dict, T: int, B: int):
    """With more than FR_STRETCH rows, phases are cut. The number of threads changes no bit."""

    def found(backend: str, threads: int) -> list[np.ndarray]:
        net = Network(
            9,
            5,
            num_layers=2,
            dtype="float64",
            backend=backend,
            rng=0,
            threads=threads,
            dropout=0.2,
            **settings,
        )
        window = Window.of(net, T, B)
        loss, gradients, state = net.loss_and_gradients(
            window.inputs, window.targets, window.state, window.starts, dropout_seed=3
        )
        return [np.array(loss), *gradients.values(), *parts_of(state)]

    alone = found(compiled, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "MIN_WORK", 1)
        patch.setattr(execution, "MIN_ROWS", 1)
        assert [one.tobytes() for one in found(compiled, 3)] == [one.tobytes() for one in alone]
    for one, other in zip(alone, found("numpy", 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_long_streams_are_learnt_the_same_in_blocks(backend: str, monkeypatch: pytest.MonkeyPatch):
    ids = np.random.default_rng(0).integers(0, 5, (98, 3))
    starts = np.random.default_rng(1).random((97, 3)) < 0.1

    def found() -> list[bytes]:
        trained = Trainer(Network(5, 8, backend=backend, rng=0))
        losses = trained.steps(ids, 10, starts, passes=3)
        return [losses.tobytes(), trained.network.flat.tobytes(), trained.state.tobytes()]

    looked_at: list[int] = []
    advance = Trainer.advance

    def watched(self: Trainer, batch: Any, *rest: Any) -> Any:
        looked_at.append(batch.inputs.size)
        return advance(self, batch, *rest)

    monkeypatch.setattr(Trainer, "advance", watched)
    expected = found()
    for symbols in (1, 70, 200):
        monkeypatch.setattr(pace, "BLOCK_SYMBOLS", symbols)
        looked_at.clear()
        assert found() == expected
        assert max(looked_at) <= max(30, symbols)


@pytest.mark.parametrize("wrong", [[np.nan], [np.inf], [-1e-3], [[0.1]], np.ones(4)[::2]])
def test_learning_rates_that_are_none_are_refused(wrong: Any):
    trained = Trainer(Network(5, 8, backend="numpy"))
    ids = np.zeros((3, 2), np.int32)
    batch = fastrnn.data.batches.Batch(ids, ids, ids.astype(np.uint8))
    with pytest.raises(ValueError, match="learning_rates"):
        trained.advance(batch, 3, 0, np.asarray(wrong))
    assert trained.updates == 0


def test_the_table_of_optimizers_is_closed():
    with pytest.raises(TypeError):
        fastrnn.optimizers.OPTIMIZERS["mine"] = fastrnn.optimizers.SGD  # type: ignore[index]


# ---- Threads that do not start -----------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 2])
def test_fewer_threads_do_what_more_would(compiled: str, start: int, monkeypatch: pytest.MonkeyPatch):
    window = Window.random(9, 8, 7, 8)
    monkeypatch.setattr(execution, "MIN_WORK", 1)
    monkeypatch.setattr(execution, "MIN_ROWS", 1)

    def found() -> list[bytes]:
        trained = Trainer(Network(7, 8, backend=compiled, threads=4, rng=0))
        assert trained.network.split(9, 8).parts == 4
        loss = trained.step(window.inputs, window.targets)
        logits, _ = trained.network.forward(window.inputs)
        total, gradients, _ = trained.network.loss_and_gradients(window.inputs, window.targets)
        arrays = np.array([loss, total]), logits, *gradients.values(), trained.network.flat
        return [array.tobytes() for array in arrays]

    class Few(thread_team.Thread):
        started = 0

        def start(self) -> None:
            if Few.started >= start:
                raise RuntimeError("can't start new thread")
            Few.started += 1
            super().start()

    expected = found()
    monkeypatch.setattr(thread_team, "Thread", Few)
    assert found() == expected
    assert thread_team.Team().at_most(9) == 1


def test_sizes_that_no_plan_tells_are_refused():
    shape = config.NetworkConfig(5, 10**10).shape
    assert parameter_layout(shape).size > 10**20
    with pytest.raises(MemoryError, match="hidden_size=10000000000 over 5 symbols needs .* PB"):
        network.window_plan(shape, 5, 3)


@pytest.mark.parametrize("call", ["step", "losses", "loss_and_gradients", "forward"])
def test_an_array_that_is_resized_while_it_is_read_ends_nothing(backend: str, call: str):
    """The conversion of another argument resizes the array, as another thread could."""
    inputs = np.zeros((4, 4), np.int32)

    class Starts:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            inputs.resize((40, 200), refcheck=False)
            return np.zeros((4, 4), np.uint8)

    net = Network(5, 4, backend=backend, rng=0)
    window = [inputs, np.zeros((4, 4), np.int32)] if call != "forward" else [inputs]
    with contextlib.suppress(ValueError):
        getattr(Trainer(net) if call == "step" else net, call)(*window, starts=Starts())
