"""The settings of updates that may change between two of them."""

from __future__ import annotations

from fastrnn.core import checks
from fastrnn.core.constants import REDUCTIONS
from fastrnn.network.network import checked_seed


class UpdateSettings(checks.Sealed):
    """What a trainer reads anew for each update; a value is checked when it is set."""

    _learning_rate: float
    _clip_value: float | None
    _clip_norm: float | None
    _reduction: str
    _dropout_seed: int

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next updates; it can be set."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = checks.real_number("learning_rate", value)

    @property
    def clip_value(self) -> float | None:
        """The largest absolute value of an element of the gradient; it can be set."""
        return self._clip_value

    @clip_value.setter
    def clip_value(self, value: float | None) -> None:
        self._clip_value = None if value is None else checks.real_number("clip_value", value)

    @property
    def clip_norm(self) -> float | None:
        """The largest norm of the whole gradient; it can be set."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float | None) -> None:
        self._clip_norm = None if value is None else checks.real_number("clip_norm", value)

    @property
    def reduction(self) -> str:
        """``"sum"``, ``"mean"`` or ``"batchmean"``; it can be set."""
        return self._reduction

    @reduction.setter
    def reduction(self, value: str) -> None:
        self._reduction = checks.one_of("reduction", value, REDUCTIONS)

    @property
    def dropout_seed(self) -> int:
        """What dropout drops depends on this and on the number of the update; it can be set."""
        return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, value: int) -> None:
        self._dropout_seed = checked_seed("dropout_seed", value)
