"""Converts parameters to PyTorch's state dicts and back. They hold arrays; PyTorch is not imported.

The cells, the order of their gates and the weights are PyTorch's. PyTorch has two biases for each gate and
adds them; a network here has their sum, ``bias_l0``. The new gate of the GRU has both, because the reset
gate multiplies the second one, which is ``bias_hn_l0``.

V vocabulary · E embedding · H hidden units · L layers · G gates of the cell · I inputs of the first layer:
E, or V if there is no embedding and the input is one-hot
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.core.cells import CELLS, Cell, listed

Array = NDArray[Any]

_RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?")


def _cells() -> dict[str, Cell]:
    """The cells that PyTorch has, by name."""
    return {name: cell for name, cell in CELLS.items() if cell.module is not None}


def to_torch_state_dict(parameters: Mapping[str, Array], *, cell: str) -> dict[str, Array]:
    """A network's parameters under the names of a PyTorch module with ``embedding``, ``rnn`` and ``head``.

    The arrays are copies. A ``Module`` with these attributes (an ``nn.Embedding`` if the network has one; an
    ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``; an ``nn.Linear``) loads them with
    ``load_state_dict({name: torch.from_numpy(array) for name, array in state_dict.items()})``. An ``nn.LSTM``
    alone loads the entries whose names begin with ``rnn.``, without this prefix.

    Parameters
    ----------
    parameters
        All parameters of a network, by name.
    cell
        ``"rnn"``, ``"gru"`` or ``"lstm"``.

    Returns
    -------
    dict
        ``embedding.weight (V, E)``; for each layer ``rnn.weight_ih_l0 (G·H, I)``, ``rnn.weight_hh_l0
        (G·H, H)``, ``rnn.bias_ih_l0`` and ``rnn.bias_hh_l0 (G·H)``, zero except for a GRU's new gate;
        ``head.weight (V, H)``, also if it is tied to the embedding, and ``head.bias (V)``.

    Raises
    ------
    ValueError
        PyTorch does not have the cell.
    """
    split = CELLS[checks.one_of("cell", cell, _cells())].split_bias
    state_dict: dict[str, Array] = {}
    for name, array in parameters.items():
        kind, _, layer = name.partition("_l")
        if kind == "bias":
            second = np.zeros_like(array)
            if split is not None:
                own = parameters[f"bias_h{split}_l{layer}"]
                second[CELLS[cell].rows(split, len(own))] = own
            state_dict |= {f"rnn.bias_ih_l{layer}": array, f"rnn.bias_hh_l{layer}": second}
        elif kind in {"weight_ih", "weight_hh"}:
            state_dict[f"rnn.{name}"] = array
        elif kind != f"bias_h{split}":
            state_dict[name] = array
    if "head.weight" not in parameters:
        bias = state_dict.pop("head.bias")
        state_dict |= {"head.weight": parameters["embedding.weight"], "head.bias": bias}
    return {name: np.array(array, order="C") for name, array in state_dict.items()}


def from_torch_state_dict(
    state_dict: Mapping[str, Any],
    *,
    cell: str | None = None,
    embedding: str | None = None,
    head: str | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return a network's parameters from a PyTorch module's, and the arguments that make the network.

    The module holds one ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``, a linear head and perhaps an embedding, under
    any names. Every entry must belong to one of these. Another entry is an error, because the network would
    not compute what the module computes.

    Parameters
    ----------
    state_dict
        Arrays by name, or objects that NumPy can read as arrays, such as PyTorch's tensors. Half precision
        becomes float32. If the recurrent layers (``bias=False``) or the head have no bias, it is zero.
    cell
        ``"rnn"``, ``"gru"`` or ``"lstm"``; ``None`` finds it from the shapes. (The state dict of an
        ``nn.RNN`` does not say whether it uses tanh or relu.)
    embedding, head
        Their names in the module, such as ``"encoder"`` for ``encoder.weight``; ``None`` finds them by their
        shapes: the head is a weight (V, H), one with a bias (V) if there is one, and the embedding is a
        weight (V, I).

    Returns
    -------
    parameters, arguments
        Copies with the network's names, in its order; and the network's arguments ``vocab_size``,
        ``hidden_size``, ``num_layers``, ``cell``, ``embedding_size`` (``None`` without an embedding) and
        ``tied``. If the head's weight equals the embedding's, ``tied`` is true and the head's is left out.

    Raises
    ------
    ValueError
        An entry is missing, has a wrong shape or does not belong to a network; the recurrent layers are
        bidirectional or have projections; or several entries may be the head or the embedding.
    TypeError
        ``state_dict`` is not a mapping from names to floating-point arrays.
    """
    entries = _arrays(state_dict)
    layers, found = _take_recurrent(entries, cell)
    H, I = found["hidden_size"], layers["weight_ih_l0"].shape[1]
    head = _choose("head", head, _heads(entries, H, embedding), f"(V, {H}), where H={H}")
    head_weight, head_bias = _take_linear(entries, head, H)
    V = len(head_weight)
    first: dict[str, Array] = {}
    candidates = [name for name in _weights(entries) if entries[_key(name, "weight")].shape == (V, I)]
    if embedding is not None or candidates or I != V:
        embedding = _choose("embedding", embedding, candidates, f"({V}, {I}), where V={V} and I={I}")
        first["embedding.weight"] = _take(entries, _key(embedding, "weight"), (V, I))
    if entries:
        raise ValueError(
            f"state_dict has entries that a network does not have: {_listed(entries)}; leave them out if "
            "the module computes nothing with them"
        )
    tied = bool(first) and np.array_equal(first["embedding.weight"], head_weight)
    last = {"head.bias": head_bias} if tied else {"head.weight": head_weight, "head.bias": head_bias}
    arguments = {"vocab_size": V, **found, "embedding_size": I if first else None, "tied": tied}
    return {**first, **layers, **last}, arguments


def _arrays(state_dict: Any) -> dict[str, Array]:
    """Copies of all entries as arrays of float32 or more, or an error."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict is a {type(state_dict).__name__}; it must be a mapping of names to arrays"
        )
    arrays, n_bytes = {}, 0
    for name, value in state_dict.items():
        # NumPy cannot read a tensor that requires a gradient, or that is on another device
        plain = value.detach().cpu() if hasattr(value, "detach") else value
        try:
            array = np.asarray(plain)
        except (TypeError, ValueError) as error:
            raise TypeError(f"state_dict[{name!r}] must be an array that NumPy can read: {error}") from error
        if array.dtype.kind != "f":
            raise TypeError(
                f"state_dict[{name!r}] must be a floating-point array, and is a {type(value).__name__} of "
                f"dtype {array.dtype}"
            )
        dtype = np.result_type(array.dtype, np.float32)
        n_bytes += array.size * dtype.itemsize
        memory.require(n_bytes, f"state_dict, whose {name!r} has shape {array.shape},")
        arrays[str(name)] = array.astype(dtype)
    return arrays


def _take_recurrent(entries: dict[str, Array], cell: str | None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Remove the recurrent layers from the entries; return a network's parameters, and the sizes."""
    prefix = _recurrent_prefix(entries)
    names = [name.removeprefix(prefix) for name in entries if name.startswith(prefix)]
    parts = [match for name in names if (match := _RECURRENT.fullmatch(name))]
    for sign, what in (("_reverse", "bidirectional"), ("weight_hr", "projected")):
        if any(sign in part[0] for part in parts):
            raise ValueError(f"the recurrent layers at {prefix!r} are {what}; a network cannot have them")
    L = 1 + max(int(part[2]) for part in parts)
    cell, H = _cell_and_size(entries, prefix, cell)
    I = (0, *entries[f"{prefix}weight_ih_l0"].shape)[-1]
    biased = any(part[1].startswith("bias") for part in parts)
    layers: dict[str, Array] = {}
    rows, split = len(CELLS[cell].gates) * H, CELLS[cell].split_bias
    for layer in range(L):
        for name, columns in (("weight_ih", H if layer else I), ("weight_hh", H)):
            layers[f"{name}_l{layer}"] = _take(entries, f"{prefix}{name}_l{layer}", (rows, columns))
        first, second = (
            _take(entries, f"{prefix}{name}_l{layer}", (rows,)) if biased else np.zeros(rows, np.float32)
            for name in ("bias_ih", "bias_hh")
        )
        layers[f"bias_l{layer}"] = first + second
        if split is not None:
            split_rows = CELLS[cell].rows(split, H)
            layers[f"bias_l{layer}"][split_rows] = first[split_rows]
            layers[f"bias_h{split}_l{layer}"] = second[split_rows].copy()
    return layers, {"hidden_size": H, "num_layers": L, "cell": cell}


def _recurrent_prefix(entries: dict[str, Array]) -> str:
    """The prefix of ``weight_ih_l0``."""
    firsts = [name for name in entries if name.endswith("weight_ih_l0")]
    if not firsts:
        raise ValueError(
            f"state_dict has no weight_ih_l0 of recurrent layers, under any prefix; it has {_listed(entries)}"
        )
    if len(firsts) > 1:
        raise ValueError(
            f"state_dict has several recurrent modules: {_listed(firsts)}; leave all but one out"
        )
    return firsts[0].removesuffix("weight_ih_l0")


def _cell_and_size(entries: dict[str, Array], prefix: str, cell: str | None) -> tuple[str, int]:
    """The cell and H, by the shape of the first layer's ``weight_hh``."""
    if cell is not None:
        checks.one_of("cell", cell, _cells())
    key = f"{prefix}weight_hh_l0"
    shape = _present(entries, key).shape
    whole = len(shape) == 2 and shape[1] > 0
    by_rows = {len(known.gates) * shape[1]: known.name for known in _cells().values()} if whole else {}
    if not by_rows or shape[0] not in by_rows:
        raise ValueError(
            f"state_dict[{key!r}] has shape {shape}; it must be "
            + listed(f"({_times(len(known.gates))}H, H) of {name!r}" for name, known in _cells().items())
        )
    found = by_rows[shape[0]]
    if cell not in {None, found}:
        raise ValueError(
            f"cell={cell!r} does not fit: state_dict[{key!r}] has shape {shape}, as in {found!r}"
        )
    return found, shape[1]


def _times(G: int) -> str:
    """A factor in front of a size, in an error."""
    return "" if G == 1 else f"{G}·"


def _heads(entries: dict[str, Array], H: int, embedding: str | None) -> list[str]:
    """The names that may be the head; only those with a bias, if there are any."""
    fit = [name for name in _weights(entries) if entries[_key(name, "weight")].shape[1] == H]
    biased = [name for name in fit if _key(name, "bias") in entries]
    return biased or [name for name in fit if name != embedding]


def _weights(entries: dict[str, Array]) -> list[str]:
    """The names of the modules that have a matrix named weight."""
    keys = [key for key, array in entries.items() if array.ndim == 2 and key.split(".")[-1] == "weight"]
    return [key.removesuffix("weight").removesuffix(".") for key in keys]


def _key(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _choose(what: str, name: str | None, candidates: list[str], shape: str) -> str:
    """The name that was given, or the only candidate."""
    if name is not None:
        return name
    if not candidates:
        raise ValueError(f"state_dict has no weight that may be the {what}, of shape {shape}")
    if len(candidates) > 1:
        raise ValueError(
            f"state_dict has several weights that may be the {what}, of shape {shape}; name one of them: "
            + " or ".join(f"{what}={candidate!r}" for candidate in candidates)
        )
    return candidates[0]


def _take_linear(entries: dict[str, Array], head: str, H: int) -> tuple[Array, Array]:
    """Remove the head from the entries; return its weight (V, H) and its bias (V), or zeros."""
    key = _key(head, "weight")
    weight = _take(entries, key, (*_present(entries, key).shape[:1], H))
    V = len(weight)
    bias = _key(head, "bias")
    return weight, _take(entries, bias, (V,)) if bias in entries else np.zeros(V, weight.dtype)


def _present(entries: dict[str, Array], name: str) -> Array:
    if name not in entries:
        raise ValueError(f"state_dict has no {name!r}; what remains of it is {_listed(entries)}")
    return entries[name]


def _take(entries: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """Remove an entry, which must have this shape."""
    checks.same_shape(f"state_dict[{name!r}]", _present(entries, name), shape)
    return entries.pop(name)


def _listed(names: Any) -> str:
    """Some of the names, for an error."""
    listed = [repr(name) for name in names]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "") or "nothing"
