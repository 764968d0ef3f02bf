"""The table of cells: all facts about a cell outside its kernels.

A row is a kind of cell, with its number in the contract. The rnn has a row for each activation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastrnn.core import constants


@dataclass(frozen=True)
class Cell:
    """A kind of cell.

    Attributes
    ----------
    kind
        The name of the kind in the contract.
    name, activation
        The arguments of a network that select it. The activation of a gru or an lstm is ``"tanh"``.
    gates
        The names of its gates, in PyTorch's order of their rows in weights and biases.
    state
        The names of the arrays that it carries from step to step. The output is the first.
    split_bias
        The gate that has two biases. Each other gate has one, the sum of PyTorch's two.
    forget_gate
        The gate whose bias is initially 1.
    module
        PyTorch's class in ``torch.nn``, or ``None`` if PyTorch does not have the cell.
    operator
        ONNX's operator, or ``None``.
    operator_gates
        The names of its gates, in ONNX's order.
    """

    kind: str
    name: str
    gates: tuple[str, ...]
    module: str | None = None
    operator: str | None = None
    operator_gates: tuple[str, ...] = ()
    activation: str = "tanh"
    state: tuple[str, ...] = ("h",)
    split_bias: str | None = None
    forget_gate: str | None = None

    @property
    def number(self) -> int:
        """Its number in the contract."""
        return constants.CELL_NAMES.index(self.kind)

    def rows(self, gate: str, hidden_size: int) -> slice:
        """The rows of a gate in a weight or a bias."""
        first = self.gates.index(gate) * hidden_size
        return slice(first, first + hidden_size)


_TABLE = (
    Cell("rnn_tanh", "rnn", ("h",), "RNN", "RNN", ("h",)),
    Cell("rnn_relu", "rnn", ("h",), "RNN", "RNN", ("h",), activation="relu"),
    # as in PyTorch, and in ONNX with linear_before_reset: the reset gate multiplies after the product
    Cell("gru", "gru", ("r", "z", "n"), "GRU", "GRU", ("z", "r", "n"), split_bias="n"),
    Cell(
        *("lstm", "lstm", ("i", "f", "g", "o"), "LSTM", "LSTM", ("i", "o", "f", "g")),
        state=("h", "c"),
        forget_gate="f",
    ),
)

#: The cells by their kinds.
KINDS = {cell.kind: cell for cell in _TABLE}

#: The cells by their names, with their default activation.
CELLS = {cell.name: cell for cell in _TABLE if cell.activation == "tanh"}

#: The activations that an rnn may have.
ACTIVATIONS = tuple(cell.activation for cell in _TABLE if cell.name == "rnn")


def cell_of(name: str, activation: str = "tanh") -> Cell:
    """The cell with this name and activation.

    Raises
    ------
    ValueError
        The activation is not ``"tanh"``, and the cell is not an rnn with this activation.
    """
    for cell in _TABLE:
        if (cell.name, cell.activation) == (name, activation):
            return cell
    raise ValueError(f"activation={activation!r} is for cell='rnn'; a {name} has fixed activations")


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence: "rnn, gru or lstm"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
