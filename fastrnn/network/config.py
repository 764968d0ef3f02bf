"""`NetworkConfig`: the arguments of a network as data.

Training, model files, repr and pickling read all its fields, so a new option is one field with its check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from fastrnn.core import checks
from fastrnn.core.cells import ACTIVATIONS, CELLS, cell_of
from fastrnn.core.layout import Shape

#: The largest number of layers: more than anyone trains, and few enough for a table of their names.
MAX_LAYERS = 1000

#: The largest number of symbols: an id is an int32.
MAX_SYMBOLS = (1 << 31) - 1

#: A function of a field's name and value that returns the value as a plain type, or raises.
Check = Callable[[str, Any], Any]


def _option(check: Check, default: Any = MISSING) -> Any:
    """A field with its check."""
    return field(default=default, metadata={"check": check})


def _size(name: str, value: Any) -> int:
    return checks.whole_number(name, value, maximum=checks.LARGEST_SIZE)


def _layers(name: str, value: Any) -> int:
    number = checks.whole_number(name, value)
    if number > MAX_LAYERS:
        raise ValueError(f"{name}={number} must be at most {MAX_LAYERS}")
    return number


@dataclass(frozen=True)
class NetworkConfig:
    """The arguments of a `Network` that say what it computes.

    They are checked, and converted to plain types.

    Raises
    ------
    ValueError, TypeError
        A field is out of range or of the wrong type, or two fields do not fit together.
    """

    vocab_size: int = _option(lambda name, value: checks.whole_number(name, value, maximum=MAX_SYMBOLS))
    hidden_size: int = _option(_size)
    cell: str = _option(lambda name, value: checks.one_of(name, value, CELLS), "rnn")
    activation: str = _option(lambda name, value: checks.one_of(name, value, ACTIVATIONS), "tanh")
    num_layers: int = _option(_layers, 1)
    embedding_size: int | None = _option(
        lambda name, value: None if value is None else _size(name, value), None
    )
    tied: bool = _option(checks.flag, default=False)
    dropout: float = _option(lambda name, value: checks.fraction(name, value, zero=True), 0.0)
    input_dropout: float = _option(lambda name, value: checks.fraction(name, value, zero=True), 0.0)
    dtype: str = _option(lambda _, value: checks.real_dtype(value).name, "float32")

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        cell_of(self.cell, self.activation)
        if self.tied and self.embedding_size != self.hidden_size:
            raise ValueError(
                f"tied=True needs embedding_size={self.embedding_size!r} to be "
                f"hidden_size={self.hidden_size!r}"
            )
        if self.input_dropout and self.embedding_size is None:
            raise ValueError(
                f"input_dropout={self.input_dropout!r} drops embeddings of symbols: it needs an "
                "embedding_size"
            )

    @property
    def shape(self) -> Shape:
        """The sizes that layouts and plans read."""
        kind = cell_of(self.cell, self.activation).kind
        E = self.embedding_size or 0
        return Shape(kind, self.num_layers, self.vocab_size, E, self.hidden_size, self.tied)

    def changed(self) -> dict[str, Any]:
        """The sizes, the cell and the dtype, and the other fields that differ from their defaults."""
        always = ("vocab_size", "hidden_size", "cell")
        others = {
            each.name: vars(self)[each.name]
            for each in fields(self)
            if each.name not in always and vars(self)[each.name] != each.default
        }
        return {**{name: vars(self)[name] for name in always}, **others, "dtype": self.dtype}


#: The check of each field.
CHECKS: dict[str, Check] = {each.name: each.metadata["check"] for each in fields(NetworkConfig)}

#: The fields that do not depend on a text. A training has them as settings.
OPTIONS = tuple(name for name in CHECKS if name != "vocab_size")
