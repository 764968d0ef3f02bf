"""Draws the initial weights of a network, by the name of an initialization.

The bytes are the same on every machine: uniform doubles are drawn, and then only single additions,
products, divisions and square roots follow, which IEEE 754 defines exactly. No libm, BLAS, LAPACK or long sum
is used. The exception is ``normal``, which is as repeatable as NumPy's ``standard_normal``.

V vocabulary · E embedding · H hidden units · I inputs of a layer · G gates of the cell
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.cells import CELLS

Array = NDArray[Any]

#: The names of initializations, and the name of the number that may follow in brackets.
INITIALIZATIONS: dict[str, str | None] = {
    "normal": "STD",
    "uniform": "BOUND",
    "orthogonal": None,
    "identity": None,
    "zeros": None,
}

#: The standard deviation of ``normal``, as in the script that fastrnn grew from.
NORMAL_STD = 0.01

#: The standard deviation of ``weight_ih`` with ``identity``.
IDENTITY_STD = 0.001

#: The largest number in brackets; a larger one is probably a typing error.
MAX_IN_BRACKETS = 1000.0

#: The columns that are rotated at a time; with a thousand rows, they fit into a core's second-level cache.
COLUMNS = 64

_FORM = re.compile(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*")


def check_initialization(value: Any) -> str:
    """Return the name of an initialization in its standard spelling.

    >>> check_initialization("normal( 5e-2 )"), check_initialization("normal(0.01)")
    ('normal(0.05)', 'normal')

    Raises
    ------
    ValueError
        The name is not known, or the number in brackets is out of range.
    """
    name, number = _parse(value)
    return name if number is None else f"{name}({number!r})"


def initialize(parameters: Mapping[str, Array], name: str, *, cell: str, hidden_size: int, rng: Any) -> None:
    """Draw a network's parameters, in the order of ``parameters``.

    - ``normal`` or ``normal(STD)``: each matrix has a standard deviation of 0.01, or STD; biases are zero.
    - ``uniform`` or ``uniform(BOUND)``: all parameters, also biases, are uniform within ±1/√H, as in
      PyTorch's recurrent layers, or within ±BOUND.
    - ``orthogonal``: each gate's block (H, H) of ``weight_hh`` is orthogonal (Saxe, McClelland & Ganguli
      2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"); the
      other matrices are uniform within ±√(6 / (rows + columns)) (Glorot & Bengio 2010), where ``weight_ih``
      has H rows, those of one gate; biases are zero.
    - ``identity``: each gate's block of ``weight_hh`` is the identity, and ``weight_ih`` has a standard
      deviation of 0.001 (Le, Jaitly & Hinton 2015, "A simple way to initialize recurrent networks of
      rectified linear units"); the rest is as in ``orthogonal``.
    - ``zeros``: all parameters are zero; it is for weights that are set later.

    The bias of the LSTM's forget gate is then set to 1 (Jozefowicz, Zaremba & Sutskever 2015), except with
    ``zeros``.

    Parameters
    ----------
    parameters
        Writable views by name, with PyTorch's names and shapes; float32 or float64, with any strides.
        Doubles are drawn, and rounded to the type of the view.
    name
        The name of an initialization, as for `check_initialization`.
    cell
        The network's cell, one of `fastrnn.core.cells.CELLS`.
    hidden_size
        H.
    rng
        A NumPy ``Generator`` or ``RandomState``.

    Raises
    ------
    ValueError
        As in `check_initialization`.
    """
    kind, number = _parse(name)
    H, forget_gate = hidden_size, CELLS[cell].forget_gate
    for key, view in parameters.items():
        view[...] = _draw(rng, kind, number, key, view.shape, H)
        if forget_gate is not None and kind != "zeros" and key.startswith("bias_l"):
            view[CELLS[cell].rows(forget_gate, H)] = 1


def _parse(value: Any) -> tuple[str, float | None]:
    """The name of an initialization, and its number; ``None`` if the number is missing or the default."""
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1] not in INITIALIZATIONS:
        allowed = [repr(f"{name}({n})" if n else name) for name, n in INITIALIZATIONS.items()]
        raise ValueError(
            f"initialization={value!r} is not known; it is one of {', '.join(allowed)}, "
            "and the number with its brackets may be left out"
        )
    name, text = match.groups()
    if text is None:
        return name, None
    if INITIALIZATIONS[name] is None:
        raise ValueError(f"initialization={value!r} has a number, and {name!r} has none")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= MAX_IN_BRACKETS:
        raise ValueError(
            f"initialization={value!r}: {INITIALIZATIONS[name]} must be a number above zero, "
            f"at most {MAX_IN_BRACKETS:g}"
        )
    return name, None if (name, number) == ("normal", NORMAL_STD) else number


def _draw(rng: Any, kind: str, number: float | None, key: str, shape: tuple[int, ...], H: int) -> Array:
    """One parameter, in float64."""
    if kind == "uniform":
        return _uniform(rng, shape, 1 / math.sqrt(H) if number is None else number)
    if kind == "zeros" or len(shape) == 1:
        return np.zeros(shape)
    if kind == "normal":
        weights: Array = rng.standard_normal(shape) * (NORMAL_STD if number is None else number)
        return weights
    if key.startswith("weight_hh"):
        gates = range(shape[0] // H)
        return np.concatenate([np.eye(H) if kind == "identity" else orthogonal(rng, H) for _ in gates])
    if kind == "identity" and key.startswith("weight_ih"):
        return _uniform(rng, shape, IDENTITY_STD * math.sqrt(3))
    rows = H if key.startswith("weight_ih") else shape[0]
    return _uniform(rng, shape, math.sqrt(6 / (rows + shape[1])))


def _uniform(rng: Any, shape: tuple[int, ...], bound: float) -> Array:
    drawn: Array = bound * (2 * rng.random(shape) - 1)
    return drawn


def orthogonal(rng: Any, H: int) -> NDArray[np.float64]:
    """A random orthogonal matrix (H, H), in a time of O(H² log H): a product of plane rotations.

    It is Kac's random walk (Kac 1956, "Foundations of kinetic theory"), which starts from random signs on
    the diagonal. A step rotates two random rows by a random angle. A round rotates all rows in random pairs
    at once. A row or column is nearly uniform on the sphere after O(H log H) steps (Pillai & Smith 2017,
    "Kac's walk on n-sphere mixes in n log n steps"). The excess of the mean fourth power of the elements
    shrinks by a quarter in each round; after 3 log₂ H rounds and some more, that mean is within about one in
    a hundred of its limit. The whole matrix is not uniform on the orthogonal group; that would need
    H² log H steps.
    """
    half, rounds = H // 2, 3 * H.bit_length() + 8
    matrix = np.diag(np.where(rng.random(H) < 0.5, -1.0, 1.0))
    orders = np.argsort(rng.random((rounds, H)), axis=1, kind="stable")
    rotations = _points_on_circle(rng, rounds * half).reshape(rounds, half, 2)
    for start in range(0, H, COLUMNS):
        some = matrix[:, start : start + COLUMNS]
        for order, rotation in zip(orders, rotations, strict=True):
            some = some[order]
            above, below = some[:half], some[half : 2 * half]
            cos, sin = rotation[:, :1], rotation[:, 1:]
            some[:half], some[half : 2 * half] = cos * above - sin * below, sin * above + cos * below
        matrix[:, start : start + COLUMNS] = some
    return matrix


def _points_on_circle(rng: Any, n: int) -> NDArray[np.float64]:
    """Points (n, 2), uniform on the unit circle.

    They are drawn uniformly in a square. Points outside the circle are drawn again until all are inside;
    then each is divided by its distance from the centre. So no sine is needed.
    """
    x, y = (2 * rng.random((n, 2)) - 1).T
    while True:
        squares = x * x + y * y
        outside = np.flatnonzero((squares > 1) | (squares == 0))
        if not outside.size:
            return np.stack([x / np.sqrt(squares), y / np.sqrt(squares)], axis=1)
        x[outside], y[outside] = (2 * rng.random((outside.size, 2)) - 1).T
