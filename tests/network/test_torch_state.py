"""PyTorch's state dicts: conversion to them, conversion from them, and refused entries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_close, torch_class
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import Network
from fastrnn.core import cells
from fastrnn.network.torch_state import from_torch_state_dict, to_torch_state_dict

CELLS = [name for name, cell in cells.CELLS.items() if cell.module]
GATES = {name: len(cell.gates) for name, cell in cells.CELLS.items()}


def weights(
    cell: str, V: int = 7, H: int = 5, L: int = 1, E: int | None = None, *, tied: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random parameters of a network, with its names and in its order."""
    rows = GATES[cell] * H
    shapes: dict[str, tuple[int, ...]] = {} if E is None else {"embedding.weight": (V, E)}
    for layer in range(L):
        shapes[f"weight_ih_l{layer}"] = (rows, H if layer else E or V)
        shapes[f"weight_hh_l{layer}"] = (rows, H)
        shapes[f"bias_l{layer}"] = (rows,)
        if split := cells.CELLS[cell].split_bias:
            shapes[f"bias_h{split}_l{layer}"] = (H,)
    shapes |= {"head.bias": (V,)} if tied else {"head.weight": (V, H), "head.bias": (V,)}
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-0.5, 0.5, shape) for name, shape in shapes.items()}


def arguments(cell: str, V: int, H: int, L: int, E: int | None, *, tied: bool = False) -> dict:
    return {
        "vocab_size": V,
        "hidden_size": H,
        "num_layers": L,
        "cell": cell,
        "embedding_size": E,
        "tied": tied,
    }


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


# ---- With PyTorch --------------------------------------------------------------------------------


def forward(p: dict, cell: str, activation: str, ids: np.ndarray) -> np.ndarray:
    """The logits (T, B, V) of a network with these parameters, from a state of zeros."""
    L, H = sum(name.startswith("weight_hh") for name in p), p["weight_hh_l0"].shape[1]
    E = p["embedding.weight"].shape[1] if "embedding.weight" in p else None
    network = Network(
        len(p["head.bias"]), H, cell=cell, activation=activation, num_layers=L, embedding_size=E,
        tied="head.weight" not in p, dtype="float64", backend="numpy", initialization="zeros",
    )  # fmt: skip
    for name, view in network.parameters.items():
        view[...] = p[name]
    return network.forward(ids)[0]


def module(cell: str, activation: str, V: int, H: int, L: int, E: int | None, *, bias: bool = True):
    """A PyTorch module with the attributes that `to_torch_state_dict` names."""
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if E is not None:
                self.embedding = torch.nn.Embedding(V, E)
            options = {"nonlinearity": activation} if cell == "rnn" else {}
            self.rnn = torch_class(torch, cells.CELLS[cell])(E or V, H, L, bias=bias, **options)
            self.head = torch.nn.Linear(H, V)

        def forward(self, ids):
            x = torch.nn.functional.one_hot(ids, V).double() if E is None else self.embedding(ids)
            return self.head(self.rnn(x)[0])

    torch.manual_seed(0)
    return Module().double()


def logits(of, ids: np.ndarray) -> np.ndarray:
    import torch

    return of(torch.tensor(ids)).detach().numpy()


def load(into, state_dict: dict[str, np.ndarray]) -> None:
    import torch

    into.load_state_dict({name: torch.from_numpy(array) for name, array in state_dict.items()})


kinds = pytest.mark.parametrize(
    ("cell", "activation"), [("rnn", "tanh"), ("rnn", "relu"), ("gru", "tanh"), ("lstm", "tanh")]
)


@kinds
@pytest.mark.parametrize("L", [1, 2, 3])
@pytest.mark.parametrize("E", [None, 4])
class TestBesidePyTorch:
    V, H = 7, 5
    ids = np.random.default_rng(1).integers(0, 7, (6, 3))

    def test_pytorch_computes_what_the_parameters_mean(
        self, cell: str, activation: str, L: int, E: int | None
    ):
        p = weights(cell, self.V, self.H, L, E)
        theirs = module(cell, activation, self.V, self.H, L, E)
        load(theirs, to_torch_state_dict(p, cell=cell))
        assert_close(logits(theirs, self.ids), forward(p, cell, activation, self.ids), 1e-12)

    def test_the_parameters_mean_what_pytorch_computes(
        self, cell: str, activation: str, L: int, E: int | None
    ):
        theirs = module(cell, activation, self.V, self.H, L, E)
        p, found = from_torch_state_dict(theirs.state_dict())
        assert found == arguments(cell, self.V, self.H, L, E)
        assert list(p) == list(weights(cell, self.V, self.H, L, E))
        assert_close(forward(p, cell, activation, self.ids), logits(theirs, self.ids), 1e-12)

    def test_there_and_back(self, cell: str, activation: str, L: int, E: int | None):
        theirs, again = (module(cell, activation, self.V, self.H, L, E) for _ in range(2))
        with_grad = dict(theirs.named_parameters())
        again.load_state_dict({name: 0 * value for name, value in with_grad.items()})
        load(again, to_torch_state_dict(from_torch_state_dict(with_grad)[0], cell=cell))
        assert_close(logits(again, self.ids), logits(theirs, self.ids), 1e-12)

    def test_without_biases(self, cell: str, activation: str, L: int, E: int | None):
        theirs = module(cell, activation, self.V, self.H, L, E, bias=False)
        p, _ = from_torch_state_dict(theirs.state_dict())
        assert not p["bias_l0"].any()
        assert_close(forward(p, cell, activation, self.ids), logits(theirs, self.ids), 1e-12)


@kinds
def test_a_network_goes_to_pytorch_and_comes_back(backend: str, cell: str, activation: str):
    network = Network(
        7, 5, cell=cell, activation=activation, num_layers=2, embedding_size=4, dtype="float64",
        backend=backend, initialization="uniform", rng=0,
    )  # fmt: skip
    ids = np.random.default_rng(0).integers(0, 7, (9, 3))
    theirs = module(cell, activation, 7, 5, 2, 4)
    load(theirs, network.to_torch_state_dict())
    expected = network.forward(ids)[0]
    assert_close(logits(theirs, ids), expected, 1e-12)
    back = Network.from_torch_state_dict(
        theirs.state_dict(), activation=activation, dtype="float64", backend=backend, dropout=0.2
    )
    assert back.shape == network.shape
    assert back.dropout == 0.2
    np.testing.assert_array_equal(back.forward(ids)[0], expected)


def test_a_state_dict_keeps_its_precision(backend: str):
    network = Network(5, 4, cell="gru", dtype="float64", backend=backend, rng=0)
    back = Network.from_torch_state_dict(network.to_torch_state_dict(), backend=backend)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back.flat, network.flat)
    network.parameters["head.bias"][1] = 1e300
    with pytest.raises(ValueError, match=r"head\.bias has NaN or infinite elements in float32"):
        Network.from_torch_state_dict(network.to_torch_state_dict(), backend=backend, dtype="float32")


def test_a_state_dict_that_is_no_network_s_is_refused(backend: str):
    state_dict = Network(5, 4, backend=backend, rng=0).to_torch_state_dict()
    del state_dict["rnn.weight_hh_l0"]
    with pytest.raises(ValueError, match="weight_hh_l0"):
        Network.from_torch_state_dict(state_dict, backend=backend)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layers_alone_load_what_is_theirs(cell: str):
    torch = pytest.importorskip("torch")
    p = weights(cell, L=2)
    kind = torch_class(torch, cells.CELLS[cell])
    state_dict = to_torch_state_dict(p, cell=cell)
    alone = {k.removeprefix("rnn."): v for k, v in state_dict.items() if k.startswith("rnn.")}
    load(kind(7, 5, 2).double(), alone)


def test_tied_weights_go_to_pytorch_and_back():
    p = weights("lstm", V=7, H=5, E=5, tied=True)
    theirs = module("lstm", "tanh", 7, 5, 1, 5)
    theirs.head.weight = theirs.embedding.weight
    load(theirs, to_torch_state_dict(p, cell="lstm"))
    assert theirs.head.weight is theirs.embedding.weight
    ids = np.arange(7)[:, np.newaxis]
    assert_close(logits(theirs, ids), forward(p, "lstm", "tanh", ids), 1e-12)
    back, found = from_torch_state_dict(theirs.state_dict())
    assert_same(back, p)
    assert found == arguments("lstm", 7, 5, 1, 5, tied=True)


def test_tensors_of_half_precision_become_float32_and_bfloat16_is_refused():
    torch = pytest.importorskip("torch")
    theirs = module("gru", "tanh", 7, 5, 1, None)
    p, _ = from_torch_state_dict(theirs.half().state_dict())
    assert {array.dtype for array in p.values()} == {np.dtype("float32")}
    with pytest.raises(TypeError, match=r"state_dict\['rnn.weight_ih_l0'\] must be an array .* BFloat16"):
        from_torch_state_dict(theirs.to(torch.bfloat16).state_dict())


# ---- Arrays alone --------------------------------------------------------------------------------


@given(
    cell=st.sampled_from(CELLS),
    V=st.integers(1, 6),
    H=st.integers(1, 6),
    L=st.integers(1, 12),
    E=st.none() | st.integers(1, 6),
    tied=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_network_comes_back(cell: str, V: int, H: int, L: int, E: int | None, tied: bool):
    E = H if tied else E
    p = weights(cell, V, H, L, E, tied=tied)
    back, found = from_torch_state_dict(to_torch_state_dict(p, cell=cell))
    assert_same(back, p)
    assert found == arguments(cell, V, H, L, E, tied=tied)


def test_names_and_shapes_are_those_of_a_module():
    p = weights("gru", V=7, H=5, L=2, E=4)
    shapes = {name: array.shape for name, array in to_torch_state_dict(p, cell="gru").items()}
    assert shapes == {
        "embedding.weight": (7, 4),
        "rnn.weight_ih_l0": (15, 4),
        "rnn.weight_hh_l0": (15, 5),
        "rnn.bias_ih_l0": (15,),
        "rnn.bias_hh_l0": (15,),
        "rnn.weight_ih_l1": (15, 5),
        "rnn.weight_hh_l1": (15, 5),
        "rnn.bias_ih_l1": (15,),
        "rnn.bias_hh_l1": (15,),
        "head.weight": (7, 5),
        "head.bias": (7,),
    }


def test_biases_are_added_but_for_the_new_gate_of_a_gru():
    for cell in CELLS:
        state_dict = to_torch_state_dict(weights(cell), cell=cell)
        rng = np.random.default_rng(3)
        first, second = (rng.random(GATES[cell] * 5) for _ in range(2))
        p, _ = from_torch_state_dict(state_dict | {"rnn.bias_ih_l0": first, "rnn.bias_hh_l0": second})
        summed = slice(None, 10) if cell == "gru" else slice(None)
        np.testing.assert_array_equal(p["bias_l0"][summed], (first + second)[summed])
        if cell == "gru":
            np.testing.assert_array_equal(p["bias_l0"][10:], first[10:])
            np.testing.assert_array_equal(p["bias_hn_l0"], second[10:])


def test_a_cell_that_pytorch_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cells.CELLS, "other", replace(cells.CELLS["gru"], name="other", module=None))
    state_dict = to_torch_state_dict(weights("gru"), cell="gru")
    assert from_torch_state_dict(state_dict)[1]["cell"] == "gru"
    for convert in (to_torch_state_dict, from_torch_state_dict):
        with pytest.raises(ValueError, match="cell='other' is not known; it is one of 'rnn', 'gru', 'lstm'$"):
            convert(state_dict, cell="other")


def test_arrays_are_contiguous_copies():
    p = {name: np.asfortranarray(array) for name, array in weights("gru").items()}
    state_dict = to_torch_state_dict(p, cell="gru")
    assert all(array.flags.c_contiguous and array.flags.writeable for array in state_dict.values())
    back, _ = from_torch_state_dict(state_dict)
    for array in state_dict.values():
        array[...] = 9
    assert_same(back, p)


def renamed(state_dict: dict, **names: str) -> dict:
    """The entries with other names of the modules; "" removes the name."""

    def rename(key: str) -> str:
        first, _, rest = key.partition(".")
        return f"{names.get(first, first)}.{rest}".removeprefix(".")

    return {rename(key): array for key, array in state_dict.items()}


@pytest.mark.parametrize(
    "names",
    [
        {"rnn": "lstm", "head": "fc", "embedding": "encoder"},
        {"rnn": "", "head": "decoder"},
        {"rnn": "module.model.lstm", "head": "module.model.head.0", "embedding": "module.emb"},
        {"rnn": "1", "head": "2", "embedding": "0"},
        {"rnn": "", "head": ""},
    ],
)
@pytest.mark.parametrize("E", [None, 4, 5, 7])
def test_modules_may_have_any_names(names: dict[str, str], E: int | None):
    p = weights("lstm", V=7, H=5, L=2, E=E)
    found, _ = from_torch_state_dict(renamed(to_torch_state_dict(p, cell="lstm"), **names))
    assert_same(found, p)


def test_a_head_without_a_bias_is_found_or_named():
    p = weights("rnn", V=7, H=5, E=4)
    p["head.bias"][:] = 0
    state_dict = to_torch_state_dict(p, cell="rnn")
    del state_dict["head.bias"]
    assert_same(from_torch_state_dict(state_dict)[0], p)
    p = weights("rnn", V=7, H=5, E=5)  # the embedding has the head's shape
    p["head.bias"][:] = 0
    state_dict = to_torch_state_dict(p, cell="rnn")
    del state_dict["head.bias"]
    with pytest.raises(ValueError, match="several .* be the head.* head='embedding' or head='head'"):
        from_torch_state_dict(state_dict)
    assert_same(from_torch_state_dict(state_dict, head="head")[0], p)
    assert_same(from_torch_state_dict(state_dict, embedding="embedding")[0], p)


def test_a_cell_that_is_named_must_fit():
    state_dict = to_torch_state_dict(weights("lstm"), cell="lstm")
    assert from_torch_state_dict(state_dict, cell="lstm")[1]["cell"] == "lstm"
    with pytest.raises(ValueError, match=r"cell='gru' does not fit: .*weight_hh_l0'\] .*\(20, 5\), .*'lstm'"):
        from_torch_state_dict(state_dict, cell="gru")
    for convert in (from_torch_state_dict, to_torch_state_dict):
        with pytest.raises(ValueError, match="cell='LSTM' is not known; it is one of 'rnn', 'gru', 'lstm'"):
            convert(state_dict, cell="LSTM")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnn.weight_ih_l0": None}, "has no weight_ih_l0 .* under any prefix; it has 'embedding.weight', "),
        ({"rnn.weight_hh_l0": None}, "has no 'rnn.weight_hh_l0'; what remains of it is "),
        ({"rnn.bias_hh_l1": None}, "has no 'rnn.bias_hh_l1'"),
        ({"rnn.weight_ih_l1": None}, "has no 'rnn.weight_ih_l1'; what remains of it is .*'rnn.weight_hh_l1'"),
        ({"head.weight": None}, r"no weight that may be the head, of shape \(V, 5\), where H=5"),
        (
            {"embedding.weight": None},
            r"that may be the embedding, of shape \(7, 4\), where V=7 and I=4",
        ),
        ({"rnn.weight_ih_l0": (20, 3)}, r"no weight that may be the embedding, of shape \(7, 3\)"),
        ({"rnn.weight_ih_l0": (19, 4)}, r"'rnn.weight_ih_l0'\] has shape \(19, 4\); it must be \(20, 4\)"),
        ({"rnn.weight_ih_l0": (20,)}, r"'rnn.weight_ih_l0'\] has shape \(20,\); it must be \(20, 20\)"),
        ({"rnn.weight_ih_l0": ()}, r"'rnn.weight_ih_l0'\] has shape \(\); it must be"),
        ({"rnn.weight_hh_l3": (20, 5)}, "has no 'rnn.weight_ih_l2'"),
        ({"rnn.weight_hh_l0": (35, 5)}, r"has shape \(35, 5\); it must be \(H, H\) of 'rnn', \(3·H, H\)"),
        ({"rnn.weight_hh_l0": (20,)}, r"has shape \(20,\); it must be \(H, H\) of 'rnn'"),
        ({"rnn.weight_hh_l0": ()}, r"has shape \(\); it must be \(H, H\) of 'rnn'"),
        ({"rnn.weight_hh_l0": (0, 0)}, r"has shape \(0, 0\); it must be \(H, H\) of 'rnn'"),
        ({"rnn.weight_ih_l1": (20, 4)}, r"'rnn.weight_ih_l1'\] has shape \(20, 4\); it must be \(20, 5\)"),
        ({"rnn.bias_ih_l0": (5,)}, r"'rnn.bias_ih_l0'\] has shape \(5,\); it must be \(20,\)"),
        ({"head.bias": (5,)}, r"'head.bias'\] has shape \(5,\); it must be \(7,\)"),
        ({"head.weight": (7, 6)}, r"no weight that may be the head"),
        ({"rnn.weight_ih_l0_reverse": (20, 4)}, "layers at 'rnn.' are bidirectional"),
        ({"rnn.weight_hr_l0": (3, 5), "rnn.weight_hh_l0": (20, 3)}, "layers at 'rnn.' are projected"),
        (
            {"other.weight_ih_l0": (20, 4)},
            "several .* modules: 'rnn.weight_ih_l0', 'other.weight_ih_l0'",
        ),
        ({"other.weight": (7, 5), "other.bias": (7,)}, "may be the head.*: head='head' or head='other'"),
        ({"other.weight": (7, 4)}, "may be the embedding.*: embedding='embedding' or embedding='other'"),
        ({"norm.weight": (5,), "norm.bias": (5,)}, "does not have: 'norm.weight', 'norm.bias'; leave"),
        ({f"more.{i}": (1,) for i in range(10)}, "'more.7' and 2 more; leave"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict, message: str):
    state_dict = to_torch_state_dict(weights("lstm", V=7, H=5, L=2, E=4), cell="lstm")
    for name, shape in changes.items():
        state_dict[name] = None if shape is None else np.zeros(shape)
    with pytest.raises(ValueError, match=message):
        from_torch_state_dict({name: array for name, array in state_dict.items() if array is not None})


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"head": "fc"}, "has no 'fc.weight'; what remains of it is 'embedding.weight', 'head.weight', "),
        ({"embedding": "encoder"}, "has no 'encoder.weight'; what remains of it is 'embedding.weight'"),
        ({"head": "embedding"}, r"'embedding.weight'\] has shape \(7, 4\); it must be \(7, 5\)"),
    ],
)
def test_a_module_that_is_named_must_be_there(named: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        from_torch_state_dict(to_torch_state_dict(weights("rnn", E=4), cell="rnn"), **named)
    with pytest.raises(ValueError, match="has no 'encoder.weight'; what remains of it is nothing"):
        from_torch_state_dict(to_torch_state_dict(weights("rnn"), cell="rnn"), embedding="encoder")


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ([1, 2], "state_dict is a list; it must be a mapping of names to arrays"),
        (
            {"model": {"weight_ih_l0": 1}},
            r"state_dict\['model'\] must be a floating-point .* is a dict",
        ),
        ({"steps": np.arange(3)}, r"state_dict\['steps'\] must be .* a ndarray of dtype int64"),
        ({"ragged": [[1.0], [1.0, 2.0]]}, r"state_dict\['ragged'\] must be an array that NumPy can read"),
        ({}, None),
    ],
)
def test_what_is_no_state_dict_is_said(state_dict: object, message: str | None):
    if message is None:
        with pytest.raises(ValueError, match="no weight_ih_l0 .*; it has nothing"):
            from_torch_state_dict(state_dict)
        return
    with pytest.raises(TypeError, match=message):
        from_torch_state_dict(state_dict)
