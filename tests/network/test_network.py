"""The network: parity of the backends, gradients, equations, and refused arguments."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
import time
from functools import partial

import numpy as np
import pytest
from helpers import CELLS, Window, assert_close, draw_parameters, input_settings, naive, parts_of, sizes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import Network, Trainer
from fastrnn.core import memory
from fastrnn.core.constants import BARRIER
from fastrnn.core.plan import ALONE, Split, step_plan, window_plan
from fastrnn.core.thread_team import Team


def make(backend: str, V: int, H: int, dtype: str = "float64", seed: int = 0) -> Network:
    """A network with weights that are large enough to affect results, and biases."""
    return draw_parameters(Network(V, H, dtype=dtype, backend=backend), seed)


def run(network: Network, window: Window) -> tuple:
    return network.loss_and_gradients(window.inputs, window.targets, window.state, window.starts)


def compare(backend: str, T: int, B: int, V: int, H: int, seed: int = 0) -> None:
    """Require that loss, gradients, logits and state agree: float64 to 1e-10, float32 to 1e-4."""
    window = Window.random(T, B, V, H, seed)
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-4)):
        fast = make(backend, V, H, dtype, seed)
        exact = make("numpy", V, H, "float64", seed)
        exact.flat[:] = fast.flat  # the same float32 weights
        loss, gradients, state = run(fast, window)
        expected_loss, expected_gradients, expected_state = run(exact, window)
        assert_close(loss, expected_loss, tolerance, "loss")
        assert_close(state, expected_state, tolerance, "state")
        for name, expected in expected_gradients.items():
            assert_close(gradients[name], expected, tolerance, name)
        logits, state = fast.forward(window.inputs, window.state, window.starts)
        expected_logits, expected_state = exact.forward(window.inputs, window.state, window.starts)
        assert_close(logits, expected_logits, tolerance, "logits")
        assert_close(state, expected_state, tolerance, "state of forward")
        losses, _ = fast.losses(window.inputs, window.targets, window.state, window.starts)
        assert_close(losses.sum(), expected_loss, tolerance, "losses")


@pytest.mark.parametrize(
    ("T", "B", "V", "H"),
    [
        (1, 1, 1, 1),
        (1, 1, 2, 1),
        (2, 1, 4, 16),
        (3, 5, 7, 11),
        (7, 3, 31, 33),
        (8, 8, 64, 63),
        (9, 4, 65, 64),
        (13, 1, 257, 65),
        (5, 17, 97, 127),
        (4, 16, 128, 128),
        (4, 33, 127, 129),
    ],
)
def test_compiled_network_matches_the_reference_on_a_grid(compiled: str, T: int, B: int, V: int, H: int):
    compare(compiled, T, B, V, H)


@given(T=sizes, B=sizes, V=sizes, H=sizes, seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compiled_network_matches_the_reference(compiled: str, T: int, B: int, V: int, H: int, seed: int):
    compare(compiled, T, B, V, H, seed)


@pytest.mark.parametrize(("T", "B", "V", "H"), [(1, 1, 2, 1), (6, 3, 5, 4), (5, 2, 3, 7)])
def test_reference_gradients_match_finite_differences(T: int, B: int, V: int, H: int):
    network, window, step = make("numpy", V, H), Window.random(T, B, V, H), 1e-5
    gradients = run(network, window)[1]
    for name, parameter in network.parameters.items():
        numeric = np.empty_like(parameter)
        for index in np.ndindex(parameter.shape):
            kept = parameter[index]
            parameter[index] = kept + step
            above = run(network, window)[0]
            parameter[index] = kept - step
            below = run(network, window)[0]
            parameter[index] = kept
            numeric[index] = (above - below) / (2 * step)
        assert_close(gradients[name], numeric, 1e-8, name)


def test_matches_the_seed_s_equations(backend: str):
    T, B, V, H = 9, 3, 6, 5
    network, window = make(backend, V, H), Window.random(T, B, V, H)
    targets = np.abs(window.targets)
    loss, gradients, state = network.loss_and_gradients(window.inputs, targets, window.state)
    weights = {name: parameter.copy() for name, parameter in network.parameters.items()}
    rows = [
        naive.loss_and_gradients(
            weights, window.inputs[:, b].tolist(), targets[:, b].tolist(), window.state[0, b]
        )
        for b in range(B)
    ]
    assert_close(loss, sum(row[0] for row in rows), 1e-12)
    assert_close(state[0], [row[2] for row in rows], 1e-12)
    for name in naive.NAMES:
        assert_close(gradients[name], sum(row[1][name] for row in rows), 1e-12, name)


def test_matches_pytorch(backend: str):
    torch = pytest.importorskip("torch")
    T, B, V, H = 7, 4, 9, 6
    network, window = make(backend, V, H), Window.random(T, B, V, H)
    rnn = torch.nn.RNN(V, H, dtype=torch.float64)
    head = torch.nn.Linear(H, V, dtype=torch.float64)
    p = {name: torch.tensor(np.ascontiguousarray(value)) for name, value in network.parameters.items()}
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(p["weight_ih_l0"])
        rnn.weight_hh_l0.copy_(p["weight_hh_l0"])
        rnn.bias_ih_l0.copy_(p["bias_l0"])
        rnn.bias_hh_l0.zero_()
        head.weight.copy_(p["head.weight"])
        head.bias.copy_(p["head.bias"])
    one_hot = torch.nn.functional.one_hot(torch.tensor(window.inputs), V).double()
    h, outputs = torch.tensor(window.state), []
    for t in range(T):  # step by step, so that rows can start anew
        h = h * torch.tensor(1.0 - window.starts[t])[None, :, None]
        output, h = rnn(one_hot[t : t + 1], h)
        outputs.append(output)
    logits = head(torch.cat(outputs))
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, V), torch.tensor(window.targets).reshape(-1), ignore_index=-1, reduction="sum"
    )
    loss.backward()
    actual_loss, gradients, state = run(network, window)
    assert_close(actual_loss, loss.item(), 1e-12)
    assert_close(state, h.detach(), 1e-12)
    assert_close(gradients["weight_ih_l0"], rnn.weight_ih_l0.grad, 1e-12)
    assert_close(gradients["weight_hh_l0"], rnn.weight_hh_l0.grad, 1e-12)
    assert_close(gradients["bias_l0"], rnn.bias_ih_l0.grad, 1e-12)
    assert_close(gradients["head.weight"], head.weight.grad, 1e-12)
    assert_close(gradients["head.bias"], head.bias.grad, 1e-12)


def test_a_window_in_two_halves_is_the_whole_window(backend: str):
    network, window = make(backend, 5, 8), Window.random(10, 3, 5, 8)
    whole, end = network.forward(window.inputs, window.state, window.starts)
    first, middle = network.forward(window.inputs[:4], window.state, window.starts[:4])
    second, last = network.forward(window.inputs[4:], middle, window.starts[4:])
    assert_close(np.concatenate([first, second]), whole, 1e-14)
    assert_close(last, end, 1e-14)


def test_a_row_that_starts_forgets_the_state(backend: str):
    network, window = make(backend, 5, 8), Window.random(4, 3, 5, 8)
    starts = np.zeros((4, 3), bool)
    starts[0, 1] = True
    with_state, _ = network.forward(window.inputs, window.state, starts)
    without, _ = network.forward(window.inputs)
    assert_close(with_state[:, 1], without[:, 1], 1e-15)
    assert np.abs(with_state[:, 0] - without[:, 0]).max() > 1e-3


def test_parameters_have_pytorch_s_names_and_shapes_and_are_writable_views(backend: str):
    network = Network(7, 5, backend=backend, rng=0)
    shapes = {name: view.shape for name, view in network.parameters.items()}
    assert shapes == {
        "weight_ih_l0": (5, 7),
        "weight_hh_l0": (5, 5),
        "bias_l0": (5,),
        "head.weight": (7, 5),
        "head.bias": (7,),
    }
    before, _ = network.forward([[0]])
    network.parameters["head.bias"][2] += 1.0
    after, _ = network.forward([[0]])
    assert_close(after - before, np.eye(7)[2][None, None], 1e-6)


def test_normal_initialization_draws_as_the_seed_does():
    network = Network(4, 16, dtype="float64", initialization="normal", rng=np.random.RandomState(42))
    expected = naive.draw_weights(np.random.RandomState(42), 4, 16)
    for name, value in expected.items():
        np.testing.assert_array_equal(network.parameters[name], value)


def test_uniform_initialization_is_within_its_bound_and_repeatable():
    network = Network(30, 16, initialization="uniform", rng=7)
    bound = 1 / 4
    weights = network.parameters["weight_hh_l0"]
    assert np.abs(weights).max() <= bound
    assert np.abs(weights).max() > 0.9 * bound
    np.testing.assert_array_equal(network.flat, Network(30, 16, initialization="uniform", rng=7).flat)
    assert not np.array_equal(network.flat, Network(30, 16, initialization="uniform", rng=8).flat)


def test_arguments_may_be_lists_read_only_or_not_contiguous(backend: str):
    network, window = make(backend, 5, 8), Window.random(6, 4, 5, 8)
    expected = run(network, window)
    inputs = np.asfortranarray(window.inputs).astype(np.uint8)
    targets = np.repeat(window.targets, 2, axis=1)[:, ::2]
    inputs.flags.writeable = False
    state = np.asfortranarray(window.state)
    loss, gradients, after = network.loss_and_gradients(
        inputs, targets.tolist(), state, window.starts.astype(bool)
    )
    assert loss == expected[0]
    np.testing.assert_array_equal(after, expected[2])
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, expected[1][name])


def test_arguments_are_not_changed(backend: str):
    network, window = make(backend, 5, 8), Window.random(6, 4, 5, 8)
    before = copy.deepcopy(window)
    run(network, window)
    for name, value in vars(before).items():
        np.testing.assert_array_equal(getattr(window, name), value)


GOOD = np.zeros((2, 3), np.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": GOOD + 5}, ValueError, r"inputs runs from 5 to 5; it must be within 0 … 4"),
        ({"inputs": GOOD - 1}, ValueError, r"inputs runs from -1"),
        ({"inputs": GOOD + 2**40}, ValueError, r"inputs runs from 1099511627776"),
        ({"inputs": GOOD.astype(float)}, TypeError, r"inputs must be whole numbers, .* float64"),
        ({"inputs": [["a"]]}, TypeError, r"inputs must be whole numbers"),
        ({"inputs": GOOD[0]}, ValueError, r"inputs has shape \(3,\); it must be \(T, B\)"),
        ({"inputs": GOOD[:0]}, ValueError, r"inputs has shape \(0, 3\)"),
        ({"targets": GOOD - 2}, ValueError, r"targets runs from -2 to -2; it must be within -1 … 4"),
        ({"targets": GOOD + 5}, ValueError, r"targets runs"),
        ({"targets": GOOD[:1]}, ValueError, r"targets has shape \(1, 3\); it must be \(2, 3\)"),
        ({"starts": GOOD[:1]}, ValueError, r"starts has shape"),
        ({"starts": GOOD + 2}, ValueError, r"starts must be"),
        ({"starts": GOOD * 0.5}, TypeError, r"starts must be"),
        ({"state": np.zeros((3, 8))}, ValueError, r"state has shape \(3, 8\); it must be \(1, 3, 8\)"),
        ({"state": np.full((1, 3, 8), np.nan)}, ValueError, r"state has NaN"),
        ({"state": np.full((1, 3, 8), np.inf)}, ValueError, r"state has NaN or infinite"),
        ({"state": np.full((1, 3, 8), 1e300)}, ValueError, r"infinite elements in float32"),
        ({"state": np.zeros((1, 3, 8), int)}, TypeError, r"state must be floating"),
        ({"inputs": [[0], [0, 1]]}, TypeError, r"inputs must be whole numbers in an array \(T, B\)"),
        ({"starts": [[0], [0, 1]]}, TypeError, r"starts must be"),
        ({"state": [[0], [0, 1]]}, TypeError, r"state must be"),
    ],
)
def test_refuses_bad_arrays(backend: str, arguments: dict, error: type, message: str):
    network = Network(5, 8, backend=backend)
    with pytest.raises(error, match=message):
        network.loss_and_gradients(**{"inputs": GOOD, "targets": GOOD, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size=0 must be at least 1"),
        ({"vocab_size": 2.0}, TypeError, "vocab_size=2.0 must be a whole number"),
        ({"hidden_size": -3}, ValueError, "hidden_size=-3 must be at least 1"),
        ({"hidden_size": True}, TypeError, "hidden_size=True must be a whole number"),
        ({"hidden_size": 10**7}, MemoryError, "hidden_size=10000000 .* needs .* are available"),
        ({"cell": "gru2"}, ValueError, "cell='gru2' is not known; it is one of 'rnn', 'gru', 'lstm'"),
        ({"cell": None}, ValueError, "cell=None is not known"),
        (
            {"activation": "sigmoid"},
            ValueError,
            "activation='sigmoid' is not known; it is",
        ),
        ({"cell": "gru", "activation": "relu"}, ValueError, "activation='relu' is for cell='rnn'; a gru has"),
        ({"num_layers": 0}, ValueError, "num_layers=0 must be at least 1"),
        ({"num_layers": 1001}, ValueError, "num_layers=1001 must be at most 1000"),
        ({"num_layers": 2.5}, TypeError, "num_layers=2.5 must be a whole number"),
        ({"embedding_size": 0}, ValueError, "embedding_size=0 must be at least 1"),
        ({"embedding_size": "8"}, TypeError, "embedding_size='8' must be a whole number"),
        ({"embedding_size": 10**9}, MemoryError, "needs .* are available"),
        ({"tied": True}, ValueError, "tied=True needs embedding_size=None to be hidden_size=8"),
        ({"tied": True, "embedding_size": 7}, ValueError, "needs embedding_size=7 to be hidden_size=8"),
        ({"tied": 1, "embedding_size": 8}, TypeError, "tied=1 must be True or False"),
        ({"dropout": 1}, ValueError, "dropout=1 must be below one"),
        ({"dropout": -0.1}, ValueError, "dropout=-0.1 must be"),
        ({"dropout": float("nan")}, ValueError, "dropout=nan must be"),
        ({"dropout": "0.5"}, TypeError, "dropout='0.5' must be"),
        ({"dtype": "float16"}, ValueError, "dtype='float16' must be 'float32' or 'float64'"),
        ({"dtype": "nonsense"}, ValueError, "dtype='nonsense' must be"),
        ({"backend": ["c"]}, ValueError, "backend=.'c'. is not known"),
        ({"dtype": None}, ValueError, "dtype=None must be"),
        ({"backend": "cuda"}, ValueError, "backend='cuda' is not known; it is one of 'auto'"),
        ({"initialization": "ones"}, ValueError, "initialization='ones' is not known"),
        ({"rng": -1}, ValueError, "rng=-1 must be"),
        ({"rng": "seed"}, TypeError, "rng='seed' must be"),
    ],
)
def test_refuses_bad_settings(arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        Network(**{"vocab_size": 5, "hidden_size": 8, **arguments})


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros((2, 3, 8)), TypeError, r"state must be a pair \(h, c\) for the LSTM, and is ndarray"),
        ([np.zeros((2, 3, 8))] * 2, TypeError, "state must be a pair .* is list"),
        ((np.zeros((2, 3, 8)),), TypeError, "state must be a pair"),
        ((np.zeros((2, 3, 8)), np.zeros((1, 3, 8))), ValueError, r"state\[1\], c, has shape \(1, 3, 8\)"),
        ((np.zeros((2, 3, 9)), np.zeros((2, 3, 8))), ValueError, r"state\[0\], h, has shape \(2, 3, 9\)"),
        ((np.zeros((2, 3, 8)), None), TypeError, r"state\[1\], c, must be floating"),
        (
            (np.zeros((2, 3, 8)), np.full((2, 3, 8), np.inf)),
            ValueError,
            r"state\[1\], c, has NaN or infinite",
        ),
    ],
)
def test_refuses_a_state_that_is_not_the_lstm_s(backend: str, state: object, error: type, message: str):
    network = Network(5, 8, cell="lstm", num_layers=2, backend=backend)
    for call in (network.forward, lambda ids, state: network.loss_and_gradients(ids, ids, state)):
        with pytest.raises(error, match=message):
            call(GOOD, state)
    with pytest.raises(error, match=message):
        Trainer(network).state = state


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "dropout_seed=-1 must be at least 0"),
        (2**63, ValueError, r"dropout_seed=9223372036854775808 must be below 2\*\*63"),
        (1.0, TypeError, "dropout_seed=1.0 must be a whole number"),
    ],
)
def test_refuses_a_bad_seed_of_dropout(backend: str, seed: object, error: type, message: str):
    network = Network(5, 8, dropout=0.5, backend=backend)
    with pytest.raises(error, match=message):
        network.loss_and_gradients(GOOD, GOOD, dropout_seed=seed)
    with pytest.raises(error, match=message):
        Trainer(network, dropout_seed=seed)


def test_refuses_a_window_that_cannot_fit():
    network = Network(5, 8, backend="numpy")
    plan = window_plan(network.shape, 10**8, 10**4)
    with pytest.raises(MemoryError, match="needs .* are available"), network.workspace(plan.size):
        pass


@pytest.mark.parametrize("settings", [{}, {"cell": "lstm", "num_layers": 2, "dropout": 0.3}], ids=str)
def test_pickles_and_copies_are_independent_networks(backend: str, settings: dict):
    network = draw_parameters(Network(5, 8, dtype="float64", backend=backend, **settings))
    window = Window.of(network, 3, 2)
    expected = run(network, window)[0]
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert run(other, window)[0] == expected
        assert repr(other) == repr(network)
        assert other.config == network.config
        other.parameters["head.bias"][:] += 1
        other.parameters["head.bias"][0] += 1
        assert run(other, window)[0] != expected
        assert run(network, window)[0] == expected


def test_one_network_serves_many_threads(backend: str):
    network = make(backend, 7, 24)
    windows = [Window.random(5 + i, 3, 7, 24, seed=i) for i in range(8)]
    expected = [run(network, window)[0] for window in windows]
    found: list[float] = [0.0] * len(windows)

    def work(i: int) -> None:
        for _ in range(20):
            found[i] = run(network, windows[i])[0]
            assert found[i] == expected[i]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(windows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_a_dtype_of_the_other_byte_order_is_the_machine_s(backend: str):
    network = Network(5, 8, dtype=">f4", backend=backend, initialization="zeros")
    assert network.dtype.isnative
    assert network.loss_and_gradients([[1]], [[2]])[0] == pytest.approx(np.log(5))


def test_kernels_release_the_gil(compiled: str):
    """A thread counts while another thread is in one long native call."""
    network = Network(64, 256, backend=compiled, threads=1)
    window = Window.random(2000, 32, 64, 256)
    network.losses(window.inputs, window.targets)
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.perf_counter()
    network.losses(window.inputs, window.targets)
    ended = time.perf_counter()
    done.set()
    thread.join()
    assert ended - began > 0.02
    assert sum(began < t < ended for t in ticks) >= 3


def test_repr_says_what_it_is(backend: str):
    text = repr(Network(5, 8, backend=backend))
    assert "vocab_size=5, hidden_size=8" in text
    assert f"backend={backend!r}" in text
    assert "157 parameters" in text
    assert "num_layers" not in text
    options = {"num_layers": 2, "embedding_size": 8, "tied": True, "dropout": 0.25}
    text = repr(Network(5, 8, cell="gru", backend=backend, **options))
    assert text.startswith(
        "Network(vocab_size=5, hidden_size=8, cell='gru', num_layers=2, embedding_size=8, tied="
    )
    assert "dropout=0.25" in text
    assert "activation='relu'" in repr(Network(5, 8, activation="relu", backend=backend))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("B", [1, 9])
def test_a_step_is_a_window_of_one(backend: str, B: int, cell: str):
    for num_layers, kind in itertools.product((1, 2, 3), ("one-hot", "embedding", "tied")):
        settings = {"num_layers": num_layers, **CELLS[cell], **input_settings(kind, 11)}
        network = draw_parameters(Network(7, 11, dtype="float64", backend=backend, **settings))
        window = Window.of(network, 1, B)
        expected, after = network.forward(window.inputs, window.state, window.starts)
        state, ids = network.checked_state(window.state, B), window.inputs[0].astype(np.int32)
        for split in (ALONE, Split(2), Split(3, by_columns=True)):
            plan, size = step_plan(network.shape, B, split)
            prepared, scratch = (memory.aligned(n, network.dtype) for n in (size, plan.size))
            for part in range(split.parts):
                network.backend.network_prepare(
                    prepared=prepared, params=network.flat, plan=plan.numbers, part=part, parts=split.parts
                )
            again, logits = state.copy(), np.empty((B, 7))
            step = partial(
                network.backend.network_step,
                logits=logits, state=again, scratch=scratch, prepared=prepared, params=network.flat,
                inputs=ids, starts=window.starts[0], plan=plan.numbers, parts=split.parts, B=B,
            )  # fmt: skip
            barrier = np.zeros(BARRIER, np.int32)
            Team().run(split.parts, lambda part, step=step, barrier=barrier: step(barrier=barrier, part=part))
            np.testing.assert_array_equal(logits, expected[0])
            for actual, wanted in zip(again, parts_of(after), strict=True):
                np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("cell", CELLS)
def test_sampling_draws_from_the_softmax_of_forward(backend: str, cell: str):
    for num_layers, kind in ((1, "one-hot"), (2, "tied"), (3, "embedding")):
        settings = {"num_layers": num_layers, **CELLS[cell], **input_settings(kind, 11)}
        network = draw_parameters(Network(7, 11, dtype="float64", backend=backend, **settings))
        state, n = network.checked_state(Window.of(network, 1, 1).state, 1), 30
        before = network.public_state(state.copy())
        drawn = network.sample(n, 3, state, temperature=0.7, rng=np.random.default_rng(0))
        logits, after = network.forward(np.array([3, *drawn[:-1]])[:, None], before)
        p = np.exp(logits[:, 0] / 0.7)
        p = np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1)
        expected = [
            int(np.argmax(row > u)) for row, u in zip(p, np.random.default_rng(0).random(n), strict=True)
        ]
        np.testing.assert_array_equal(drawn, expected)
        for actual, wanted in zip(state, parts_of(after), strict=True):
            assert_close(actual, wanted, 1e-13)


def test_what_a_network_is_stays(backend: str):
    network = Network(5, 8, dropout=0.2, backend=backend)
    for name in ("dropout", "cell", "num_layers", "tied", "hidden_size"):
        with pytest.raises(AttributeError):
            setattr(network, name, 2)
