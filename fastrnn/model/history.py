"""What a training recorded, as a sequence of records that is kept in columns.

A record is a dict of numbers. Each key has one column of floats, NaN where a record has not that key, so that
millions of records take eight bytes for each number.
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

#: Steps are below it: every whole number up to here is a float.
STEP_LIMIT = 1 << 53

#: The bits of the NaN that stands where a record has not a key.
NAN_BITS = int(np.array(math.nan).view(np.uint64))

#: How many records `repr` shows, at most.
LONGEST_REPR = 1000


class History(Sequence[Record]):
    """Records in the order of their updates; `append` and `extend` add to them.

    It behaves as a list of dicts that can only grow. A record that it returns is a copy.

    Parameters
    ----------
    records
        Mappings of str to numbers. Each has ``step``, a whole number from 0 on, and ``loss``, which is
        finite. A key whose value is NaN is as if it were not there.

    Raises
    ------
    TypeError, ValueError
        A record is none; the message says which one, and why.
    """

    def __init__(self, records: Iterable[Mapping[str, float]] = ()) -> None:
        self._columns: dict[str, array[float]] = {}
        self._length = 0
        self.extend(records)

    @classmethod
    def of_columns(cls, columns: Mapping[str, NDArray[np.float64]]) -> Self:
        """The history that has these columns, which are just those that `columns` returns for it.

        Raises
        ------
        ValueError
            No history has such columns.
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
            # from its place on: an append that was interrupted may have left a value there
            column[place:] = array("d", [values.get(key, math.nan)])
        self._length += 1

    def extend(self, records: Iterable[Mapping[str, float]]) -> None:
        """Add records; errors are those of the constructor."""
        if isinstance(records, str | Mapping) or not isinstance(records, Iterable):
            raise TypeError(f"history is {type(records).__name__}; it must be a sequence of dicts of numbers")
        for record in records:
            self.append(record)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Copies of the columns by key, float64 (n), where n is the number of records.

        Where a record has not a key, there is NaN. Each key is that of a record.
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
        try:
            place = range(self._length)[operator.index(index)]
        except IndexError:
            raise IndexError(f"history has {self._length} records, and no index {index}") from None
        values = {key: column[place] for key, column in self._columns.items()}
        return {k: int(v) if k == "step" else v for k, v in values.items() if not math.isnan(v)}

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
    """A history as it is, or the one that has these records."""
    return records if isinstance(records, History) else History(records)


def _checked_record(name: str, record: object) -> dict[str, float]:
    """The values of a record as floats, those that are NaN left out."""
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
    """A key of a record, which names a tensor of a file; ``name`` is what has it."""
    if not isinstance(key, str):
        raise TypeError(f"{name} has the key {shown(key)}; it must be str")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has the key {shown(key)}, which has a lone surrogate") from error
    return str(key)


def _number(name: str, value: Any) -> float:
    """A number as a float, if it is one without a loss."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; it must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number != value and not math.isnan(number):
        raise ValueError(f"{name} is {shown(value)}, which is no float64")
    return number


def _check_column(key: str, column: NDArray[np.float64]) -> None:
    """Require that a column holds just what `History.append` puts there."""
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
