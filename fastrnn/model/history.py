"""The records of a training, as a sequence that is stored in columns.

A record is a dict of numbers. Each key has one column of floats; the value is NaN if a record does not have
the key. So millions of records take eight bytes for each number.

What the numbers of a training's records are:
- ``step``: the number of the update, from 0 on; ``learning_rate`` is that of this update.
- ``loss`` in nats: the mean per symbol since the previous record or, with ``reduction="sum"``, the sum over
  the window of that update.
- ``gradient_norm``: the norm of that update's gradient, after the clip by value and before the clip by norm.
- ``validation_loss``: the mean in nats per symbol of the first 32,768 symbols that are held out; with
  ``split="rows"``, of all of them. With ``averaging``, it alone is that of the averaged parameters.
- ``held_out_loss``, ``held_out_symbols`` and, but for tokens, ``held_out_bytes``: the loss on all that is
  held out, in the record of the weights that are kept; see `Model.evaluation`.
- ``refit``: 1 in the records of a refit, which have no validation loss.
"""

from __future__ import annotations

import math
import numbers
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.checks import shown

Record = dict[str, float]

#: The keys that each record has.
REQUIRED = ("step", "loss")

#: A step is below this number: every whole number up to it is exact as a float.
STEP_LIMIT = 1 << 53

#: The bits of the NaN of a key that a record does not have.
NAN_BITS = int(np.array(math.nan).view(np.uint64))

#: The most records that `repr` shows.
LONGEST_REPR = 1000


class History(Sequence[Record]):
    """Records in the order of their updates; `append` and `extend` add to them.

    It behaves like a list of dicts to which records can only be added. It returns copies of its records;
    `amend` adds keys to one.

    Parameters
    ----------
    records
        Mappings of str to numbers. Each has ``step``, a whole number from 0 on, and ``loss``, which is
        finite. A key whose value is NaN is left out.

    Raises
    ------
    TypeError, ValueError
        A record is invalid; the message says which one, and why.
    """

    def __init__(self, records: Iterable[Mapping[str, float]] = ()) -> None:
        self._columns: dict[str, array[float]] = {}
        self._length = 0
        self.extend(records)

    @classmethod
    def of_columns(cls, columns: Mapping[str, NDArray[np.float64]]) -> Self:
        """Return the history with these columns; they must be exactly what its `columns` returns.

        Raises
        ------
        ValueError
            No history has these columns.
        """
        history = cls()
        if columns and not columns.keys() >= set(REQUIRED):
            raise ValueError("the history is wrong: it has no 'step' or no 'loss'")
        for key, column in columns.items():
            values = np.ascontiguousarray(column, np.float64)
            _check_column(checked_key("history", key), values)
            history._columns[key] = array("d", values.tobytes())
            history._length = len(values)
        return history

    def append(self, record: Mapping[str, float]) -> None:
        """Add a record; errors are those of the constructor."""
        values, place = _checked_record(f"history[{self._length}]", record), self._length
        for key in values:
            if key not in self._columns:
                self._columns[key] = array("d", [math.nan]) * place
        for key, column in self._columns.items():
            # replace the rest: an interrupted append may have left a value there
            column[place:] = array("d", [values.get(key, math.nan)])
        self._length += 1

    def amend(self, index: int, more: Mapping[str, float]) -> None:
        """Add keys to a record, or change the values of some; errors are those of the constructor.

        An ``IndexError`` says that there is no such record.
        """
        place = self._place(index)
        values = _checked_record(f"history[{place}]", {**self[place], **more})
        for key, value in values.items():
            if key not in self._columns:
                self._columns[key] = array("d", [math.nan]) * self._length
            self._columns[key][place] = value

    def extend(self, records: Iterable[Mapping[str, float]]) -> None:
        """Add records; errors are those of the constructor."""
        if isinstance(records, str | Mapping) or not isinstance(records, Iterable):
            raise TypeError(f"history is {type(records).__name__}; it must be a sequence of dicts of numbers")
        for record in records:
            self.append(record)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Return copies of the columns by key, float64 (n), where n is the number of records.

        The value is NaN if a record does not have the key. At least one record has each key.
        """
        columns = {key: np.array(column[: self._length]) for key, column in self._columns.items()}
        return {key: column for key, column in columns.items() if not np.isnan(column).all()}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Record | History:
        if isinstance(index, slice):
            part = History()
            part._length = len(range(self._length)[index])
            part._columns = {key: column[: self._length][index] for key, column in self._columns.items()}
            return part
        place = self._place(index)
        values = {key: column[place] for key, column in self._columns.items()}
        return {k: int(v) if k == "step" else v for k, v in values.items() if not math.isnan(v)}

    def _place(self, index: int) -> int:
        """The place of a record, counted from the first one."""
        try:
            return range(self._length)[operator.index(index)]
        except IndexError:
            raise IndexError(f"history has {self._length} records, and no index {index}") from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, History):
            mine, theirs = self.columns(), other.columns()
            return mine.keys() == theirs.keys() and all(
                np.array_equal(column, theirs[key], equal_nan=True) for key, column in mine.items()
            )
        if isinstance(other, list):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __copy__(self) -> History:
        return self[:]

    def __repr__(self) -> str:
        if self._length <= LONGEST_REPR:
            return repr(list(self))
        return f"<History of {self._length:,} records, the last {self[-1]}>"


def as_history(records: Iterable[Mapping[str, float]]) -> History:
    """Return a history as it is, or a new one with these records."""
    return records if isinstance(records, History) else History(records)


def _checked_record(name: str, record: object) -> dict[str, float]:
    """Return the values of a record as floats, without those that are NaN."""
    if not isinstance(record, Mapping):
        raise TypeError(f"{name} is {shown(record)}; it must be a dict of numbers")
    values = {checked_key(name, key): _number(f"{name}[{key!r}]", value) for key, value in record.items()}
    values = {key: value for key, value in values.items() if not math.isnan(value)}
    for key in REQUIRED:
        if key not in values:
            raise ValueError(f"{name} is {shown(record)}; it must have {key!r}, which is not NaN")
    if not math.isfinite(values["loss"]):
        raise ValueError(f"{name}['loss'] is {values['loss']}; it must be finite")
    step = values["step"]
    if not 0 <= step < STEP_LIMIT or not step.is_integer():
        raise ValueError(f"{name}['step'] is {step}; it must be a whole number from 0 to 2**53 - 1")
    return {**values, "step": abs(step)}  # -0.0 is 0


def checked_key(name: str, key: object) -> str:
    """Return a key of a record if it can name a tensor of a file; ``name`` is the record's name in errors."""
    if not isinstance(key, str):
        raise TypeError(f"{name} has the key {shown(key)}; it must be str")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has the key {shown(key)}, which has a lone surrogate") from error
    return str(key)


def _number(name: str, value: Any) -> float:
    """Return a number as a float; it must be exact as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; it must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number != value and not math.isnan(number):
        raise ValueError(f"{name} is {shown(value)}, which is not a float64")
    return number


def _check_column(key: str, column: NDArray[np.float64]) -> None:
    """Require that a column holds only values that `History.append` writes."""
    missing = np.isnan(column)
    if key in REQUIRED:
        good = bool(np.isfinite(column).all())
    else:
        good = not missing.all() and bool(np.all(column[missing].view(np.uint64) == NAN_BITS))
    if good and key == "step":
        in_range = (column >= 0) & (column < STEP_LIMIT) & ~np.signbit(column)
        good = bool(np.all(in_range & (column == np.floor(column))))
    if not good:
        raise ValueError(f"the history is wrong: no record gives the values of {shown(key)}")
