"""Every cell, with several layers, inputs and dropout: parity, bits, gradients, and PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import (
    CELLS,
    SIZES,
    Window,
    assert_close,
    draw_parameters,
    flatten,
    input_settings,
    naive,
    parts_of,
    torch_class,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import Network, Trainer
from fastrnn.backends.reference import kept
from fastrnn.core import plan
from fastrnn.core.constants import HEAD_STEPS
from fastrnn.core.constants import INPUTS as INPUT_LAYER
from fastrnn.network import execution

T, B, V, H = 6, 5, 11, 9

INPUTS = ("one-hot", "embedding", "tied")
KEYS = (None, 2**40 + 7)

cells = pytest.mark.parametrize("cell", CELLS)
layers = pytest.mark.parametrize("num_layers", [1, 2, 3])


def variants(cell: str, num_layers: int, H: int = H) -> Iterator[tuple[dict[str, Any], int | None]]:
    """The arguments of a network for every kind of input, each without and with a seed of dropout."""
    for kind, dropout_seed in itertools.product(INPUTS, KEYS):
        dropped = {"dropout": 0.3, "input_dropout": 0.2 if kind != "one-hot" else 0.0}
        yield {"num_layers": num_layers, **dropped, **CELLS[cell], **input_settings(kind, H)}, dropout_seed


def make(backend: str, options: dict[str, Any], dtype: str = "float64", seed: int = 0) -> Network:
    return draw_parameters(Network(V, H, dtype=dtype, backend=backend, **options), seed)


def results(net: Network, window: Window, dropout_seed: int | None) -> dict[str, Any]:
    """All results of a network for a window, by name."""
    inputs, targets, state, starts = window.inputs, window.targets, window.state, window.starts
    loss, found, after = net.loss_and_gradients(inputs, targets, state, starts, dropout_seed=dropout_seed)
    logits, forward_state = net.forward(inputs, state, starts)
    losses, losses_state = net.losses(inputs, targets, state, starts)
    found |= {"loss": np.array(loss), "logits": logits, "losses": losses}
    for name, carried in {"gradients": after, "forward": forward_state, "losses": losses_state}.items():
        found |= {f"state of {name}, {i}": part for i, part in enumerate(parts_of(carried))}
    return found


def compare(
    backend: str, options: dict[str, Any], dropout_seed: int | None, sizes: tuple[int, ...], seed: int
) -> None:
    """Require that all results agree with the reference: in float64 to 1e-10, in float32 to 1e-4."""
    T, B, V, H = sizes
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-4)):
        fast = draw_parameters(Network(V, H, dtype=dtype, backend=backend, **options), seed)
        exact = Network(V, H, dtype="float64", backend="numpy", **options)
        exact.flat[:] = fast.flat  # the same float32 weights
        window = Window.of(exact, T, B, seed)
        actual, expected = results(fast, window, dropout_seed), results(exact, window, dropout_seed)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(actual[name], value, tolerance, f"{name} of {fast!r}")


@cells
@layers
def test_matches_the_reference(compiled: str, cell: str, num_layers: int):
    for options, dropout_seed in variants(cell, num_layers):
        compare(compiled, options, dropout_seed, (T, B, V, H), seed=num_layers)


@given(
    sizes=st.tuples(*[st.sampled_from(SIZES)] * 4),
    cell=st.sampled_from(list(CELLS)),
    num_layers=st.integers(1, 3),
    kind=st.sampled_from(INPUTS),
    dropout_seed=st.sampled_from(KEYS),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_matches_the_reference_at_odd_sizes(
    compiled: str,
    sizes: tuple[int, ...],
    cell: str,
    num_layers: int,
    kind: str,
    dropout_seed: int | None,
    seed: int,
):
    options = {"num_layers": num_layers, "dropout": 0.3, **CELLS[cell], **input_settings(kind, sizes[3])}
    compare(compiled, options, dropout_seed, sizes, seed)


def digest(net: Network, window: Window, dropout_seed: int | None) -> dict[str, bytes]:
    """The bytes of a network's results for a window, and of the network after three updates."""
    found = results(net, window, dropout_seed)
    trainer = Trainer(net, averaging=0.9, dropout_seed=dropout_seed or 0, clip_norm=1.0)
    trainer.state = window.state
    for _ in range(3):
        trainer.step(window.inputs, window.targets, window.starts)
    found |= {"parameters": net.flat, "average": trainer.averaged_network.flat}
    return {name: np.asarray(value).tobytes() for name, value in found.items()}


@cells
@layers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numba_and_c_give_the_same_bits_at_any_number_of_threads(
    cell: str, num_layers: int, dtype: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execution, "MIN_WORK", 1)
    monkeypatch.setattr(execution, "MIN_ROWS", 1)
    require_backend("c"), require_backend("numba")
    for options, dropout_seed in variants(cell, num_layers):
        window = Window.of(make("c", options), T, B)
        expected = None
        for backend, threads in itertools.product(("c", "numba"), (1, 2, 3)):
            net = make(backend, {**options, "threads": threads}, dtype)
            assert net.split(T, B).parts == threads
            found = digest(net, window, dropout_seed)
            expected = expected or found
            assert found == expected, [name for name in found if found[name] != expected[name]]


def share_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads share the columns of products at all sizes, however few they are."""
    for name, value in {"MIN_WORK": 1, "MIN_ROWS": 1000, "MIN_STEP_WORK": 1, "MIN_COLUMNS": 1}.items():
        monkeypatch.setattr(execution, name, value)


def sampled(net: Network) -> dict[str, bytes]:
    """The bytes of what a network draws, and of the state after it."""
    state = net.checked_state(None, 1)
    drawn = net.sample(20, 3, state, temperature=0.9, rng=np.random.default_rng(0))
    return {"drawn": drawn.tobytes(), "state of drawn": state.tobytes()}


@cells
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_that_share_columns_give_the_same_bits(
    cell: str, num_layers: int, dtype: str, monkeypatch: pytest.MonkeyPatch
):
    """With 64 units the panels of a packed matrix do not cross gates; with 65 they do."""
    share_columns(monkeypatch)
    require_backend("c"), require_backend("numba")
    for B, H in ((1, 64), (2, 65), (3, 9)):
        for options, key in variants(cell, num_layers, H):
            expected = None
            for backend, threads in itertools.product(("c", "numba"), (1, 2, 5)):
                net = Network(V, H, dtype=dtype, backend=backend, threads=threads, rng=0, **options)
                window = Window.of(net, T, B)
                assert net.split(T, B) == (threads, threads > 1)
                found = digest(net, window, key) | sampled(net)
                expected = expected or found
                assert found == expected, [name for name in found if found[name] != expected[name]]


@pytest.mark.parametrize("H", [257, 300, 512])
def test_large_layers_that_threads_share_give_the_same_bits(
    compiled: str, H: int, monkeypatch: pytest.MonkeyPatch
):
    share_columns(monkeypatch)
    for cell, B in itertools.product(CELLS, (1, 3)):
        expected = None
        for threads in (1, 2, 3):
            net = Network(V, H, backend=compiled, threads=threads, rng=0, **CELLS[cell])
            found = digest(net, Window.of(net, T, B), None) | sampled(net)
            expected = expected or found
            assert found == expected, [name for name in found if found[name] != expected[name]]


@cells
@layers
def test_gradients_match_finite_differences(compiled: str, cell: str, num_layers: int):
    """Central differences are taken at some elements of each parameter."""
    rng, step = np.random.default_rng(0), 1e-5
    for options, dropout_seed in variants(cell, num_layers):
        net = make(compiled, options)
        window = Window.of(net, T, B)
        arguments = window.inputs, window.targets, window.state, window.starts, dropout_seed
        gradients = net.loss_and_gradients(*arguments)[1]
        for name, parameter in net.parameters.items():
            for flat_index in rng.integers(0, parameter.size, 5):
                index = np.unravel_index(flat_index, parameter.shape)
                before, around = parameter[index], []
                for parameter[index] in (before + step, before - step):
                    around.append(net.loss_and_gradients(*arguments)[0])
                parameter[index] = before
                numeric = (around[0] - around[1]) / (2 * step)
                assert_close(gradients[name][index], numeric, 1e-7, f"{name} of {net!r}")


@cells
def test_matches_equations_in_scalar_loops(backend: str, cell: str):
    for num_layers in (1, 2):
        net = make(backend, {**CELLS[cell], "num_layers": num_layers})
        inputs = Window.of(net, 4, 2).inputs
        logits, state = net.forward(inputs)
        weights = {name: parameter.tolist() for name, parameter in net.parameters.items()}
        for b in range(2):
            kind = net.shape.kind
            expected, carried = naive.logits(kind, num_layers, weights, inputs[:, b].tolist())
            assert_close(logits[:, b], expected, 1e-13)
            for actual, wanted in zip(parts_of(state), carried, strict=True):
                assert_close(actual[:, b], wanted, 1e-13)


# ---- PyTorch -----------------------------------------------------------------------------------------


def torch_modules(torch: Any, net: Network) -> tuple[list[Any], dict[str, Any]]:
    """A module of PyTorch for each layer, with the network's weights, and its other parameters by name."""
    p = {name: torch.tensor(np.ascontiguousarray(value)) for name, value in net.parameters.items()}
    kind = torch_class(torch, net.shape.cell)
    more = {"nonlinearity": net.activation} if net.cell == "rnn" else {}
    modules = []
    for layer in range(net.num_layers):
        made = kind(net.shape.inputs(layer), net.hidden_size, dtype=torch.float64, **more)
        with torch.no_grad():
            made.weight_ih_l0.copy_(p.pop(f"weight_ih_l{layer}"))
            made.weight_hh_l0.copy_(p.pop(f"weight_hh_l{layer}"))
            made.bias_ih_l0.copy_(p.pop(f"bias_l{layer}"))
            made.bias_hh_l0.zero_()
            if net.cell == "gru":
                made.bias_hh_l0[2 * net.hidden_size :] = p.pop(f"bias_hn_l{layer}")
        modules.append(made)
    return modules, {name: value.requires_grad_() for name, value in p.items()}


def torch_results(torch: Any, net: Network, window: Window, dropout_seed: int | None) -> dict[str, Any]:
    """The loss, logits, state and gradients of PyTorch, computed layer by layer and step by step."""
    modules, p = torch_modules(torch, net)
    inputs, T, B, H = torch.tensor(window.inputs), *window.inputs.shape, net.hidden_size
    if net.shape.E:
        below = torch.nn.functional.embedding(inputs, p["embedding.weight"])
        if dropout_seed is not None:
            keep = kept(net.input_dropout, dropout_seed, 0, INPUT_LAYER, np.arange(T * B), B, 1)
            below = below * torch.tensor(keep.reshape(T, B, 1) / (1 - net.input_dropout))
    else:
        below = torch.nn.functional.one_hot(inputs, net.vocab_size).double()
    states = []
    for layer, module in enumerate(modules):
        carried, outputs = [torch.tensor(part[layer : layer + 1]) for part in parts_of(window.state)], []
        for t in range(T):  # step by step, so that rows can start anew
            carried = [part * torch.tensor(1.0 - window.starts[t])[None, :, None] for part in carried]
            output, after = module(below[t : t + 1], tuple(carried) if net.cell == "lstm" else carried[0])
            carried = parts_of(after)
            outputs.append(output)
        states.append(carried)
        below = torch.cat(outputs)
        if dropout_seed is not None:
            keep = kept(net.dropout, dropout_seed, 0, layer, np.arange(T * B), B, H).reshape(T, B, H)
            below = below * torch.tensor(keep / (1 - net.dropout))
    head = p["embedding.weight"] if net.tied else p["head.weight"]
    logits = below @ head.T + p["head.bias"]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(window.targets).flatten(), ignore_index=-1, reduction="sum"
    )
    loss.backward()
    found = {name: value.grad for name, value in p.items()}
    for layer, module in enumerate(modules):
        found[f"weight_ih_l{layer}"] = module.weight_ih_l0.grad
        found[f"weight_hh_l{layer}"] = module.weight_hh_l0.grad
        found[f"bias_l{layer}"] = module.bias_ih_l0.grad
        if net.cell == "gru":
            found[f"bias_hn_l{layer}"] = module.bias_hh_l0.grad[2 * H :]
    for i, parts in enumerate(zip(*states, strict=True)):
        found[f"state of gradients, {i}"] = torch.cat(parts)
    return {"loss": loss, "logits": logits, **found}


@cells
@layers
def test_matches_pytorch(backend: str, cell: str, num_layers: int):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # steps are small
    for options, dropout_seed in variants(cell, num_layers):
        net = make(backend, options)
        window = Window.of(net, T, B)
        actual, expected = results(net, window, dropout_seed), torch_results(torch, net, window, dropout_seed)
        if dropout_seed is not None:
            del expected["logits"]  # forward drops nothing
        assert set(net.parameters) < set(expected)
        for name, value in expected.items():
            assert_close(actual[name], value.detach(), 1e-12, f"{name} of {net!r}")


@cells
def test_many_layers_are_pytorch_s(backend: str, cell: str):
    """The results are those of one PyTorch module with all layers, from a state of zeros."""
    torch = pytest.importorskip("torch")
    net = make(backend, {**CELLS[cell], "num_layers": 4, "embedding_size": 3})
    window = Window.of(net, T, B)
    kind = torch_class(torch, net.shape.cell)
    more = {"nonlinearity": net.activation} if net.cell == "rnn" else {}
    module = kind(3, H, 4, dtype=torch.float64, **more)
    p = {name: torch.tensor(np.ascontiguousarray(value)) for name, value in net.parameters.items()}
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.startswith("bias_hh"):
                value.zero_()
                if net.cell == "gru":
                    value[2 * H :] = p[name.replace("hh", "hn")]
            else:
                value.copy_(p[name.replace("bias_ih", "bias")])
        expected, state = module(p["embedding.weight"][torch.tensor(window.inputs)])
        expected = expected @ p["head.weight"].T + p["head.bias"]
    logits, after = net.forward(window.inputs)
    assert_close(logits, expected, 1e-12)
    for actual, wanted in zip(parts_of(after), parts_of(state), strict=True):
        assert_close(actual, wanted, 1e-12)


# ---- Windows -----------------------------------------------------------------------------------------


@cells
def test_a_window_in_two_halves_is_the_whole_window(backend: str, cell: str):
    net = make(backend, {**CELLS[cell], "num_layers": 2})
    window = Window.of(net, 10, 3)
    whole, end = net.forward(window.inputs, window.state, window.starts)
    first, middle = net.forward(window.inputs[:4], window.state, window.starts[:4])
    second, last = net.forward(window.inputs[4:], middle, window.starts[4:])
    assert_close(np.concatenate([first, second]), whole, 1e-14)
    for actual, expected in zip(parts_of(last), parts_of(end), strict=True):
        assert_close(actual, expected, 1e-14)


@cells
def test_no_gradient_crosses_a_start(backend: str, cell: str):
    """Steps before a start do not affect the gradient of the losses after it."""
    net = make(backend, {**CELLS[cell], "num_layers": 2, "embedding_size": 3})
    window = Window.of(net, 8, 3)
    window.starts[:], window.targets[:5] = 0, -1
    window.starts[5] = 1
    _, whole, _ = net.loss_and_gradients(window.inputs, window.targets, window.state, window.starts)
    _, alone, _ = net.loss_and_gradients(window.inputs[5:], window.targets[5:])
    assert_close(flatten(net, whole), flatten(net, alone), 1e-14)


@cells
@pytest.mark.parametrize("kind", INPUTS)
def test_a_head_in_blocks_of_time_gives_the_same_bits(
    compiled: str, cell: str, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execution, "MIN_WORK", 1)
    monkeypatch.setattr(execution, "MIN_ROWS", 1)
    options = {"num_layers": 2, "dropout": 0.3, **CELLS[cell], **input_settings(kind, H)}
    window = Window.of(make(compiled, options), 7, B)
    found = []
    try:
        for logits, threads in itertools.product((plan.MAX_LOGITS, 1, 3 * B * V), (1, 2, 3)):
            monkeypatch.setattr(plan, "MAX_LOGITS", logits)
            plan.window_plan.cache_clear()
            net = make(compiled, {**options, "threads": threads})
            steps = plan.window_plan(net.shape, 7, B, plan.Split(threads), dropout=True).numbers[HEAD_STEPS]
            assert steps == {1: 1, 3 * B * V: 3}.get(logits, 7)
            found.append(digest(net, window, KEYS[1]))
    finally:
        plan.window_plan.cache_clear()
    assert all(each == found[0] for each in found)


def test_a_vocabulary_of_fifty_thousand_trains_in_bounded_memory(compiled: str):
    """The logits of the whole window would be 2 GB."""
    net = Network(50_000, 16, cell="gru", embedding_size=16, tied=True, backend=compiled, rng=0)
    trainer = Trainer(net, optimizer="sgd", learning_rate=1e-3, reduction="mean")
    ids = np.random.default_rng(0).integers(0, 50_000, (501, 20))
    loss = trainer.step(ids[:-1], ids[1:]) / ids[1:].size
    assert loss == pytest.approx(np.log(50_000), rel=0.01)
    (workspace,) = net._idle_workspaces
    assert workspace.flat.nbytes < 100e6
