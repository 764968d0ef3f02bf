"""Optimizers and learning-rate schedules: settings only; the arithmetic of an update is a kernel.

An optimizer names its kernel, says how many moments it keeps for each parameter, and turns learning
rates into the rows of settings that the kernel reads. Names and defaults are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrnn import checks

#: The width of a row of settings, FR_SETTINGS in the contract.
SETTINGS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optimizer:
    """What every optimizer has."""

    name: ClassVar[str]
    #: The number by which `train_windows` knows it.
    number: ClassVar[int]
    #: How many moments it keeps for each parameter.
    moments: ClassVar[int]

    def initial_moments(self, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The moments (M, n) before the first update."""
        return np.zeros((self.moments, n), dtype)

    def describe(self) -> dict[str, Any]:
        """The name and the settings as plain data, for the model file."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {"name": self.name, **plain}

    def settings(self, rates: Floats, done: int) -> Floats:  # noqa: ARG002
        """A row of settings for each of these learning rates, after ``done`` updates."""
        rows = np.zeros((len(rates), SETTINGS))
        rows[:, 0] = rates
        return rows


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, without momentum."""

    name: ClassVar[str] = "sgd"
    number: ClassVar[int] = 0
    moments: ClassVar[int] = 0


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011), as ``torch.optim.Adagrad`` has it.

    min-char-rnn's form, which divides by ``sqrt(m + 1e-8)``, is this one with
    ``initial_accumulator_value=1e-8, eps=0``.

    Parameters
    ----------
    initial_accumulator_value
        What the sum of squared gradients starts from, zero or more.
    eps
        Added to its root, zero or more; not both zero.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or no number.
    """

    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    name: ClassVar[str] = "adagrad"
    number: ClassVar[int] = 1
    moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("initial_accumulator_value", "eps"):
            object.__setattr__(self, name, checks.real_number(name, getattr(self, name), zero=True))
        if self.initial_accumulator_value == 0 and self.eps == 0:
            raise ValueError("eps=0 needs an initial_accumulator_value above zero, or it divides by zero")

    def initial_moments(self, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.full((1, n), self.initial_accumulator_value, dtype)

    def settings(self, rates: Floats, done: int) -> Floats:
        rows = super().settings(rates, done)
        rows[:, 1] = self.eps
        return rows


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), as ``torch.optim.Adam`` has it.

    Parameters
    ----------
    betas
        How much of the mean of the gradients, and of their squares, each update keeps; below one.
    eps
        Added to the root of the second, above zero.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or no number.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    name: ClassVar[str] = "adam"
    number: ClassVar[int] = 2
    moments: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise ValueError(f"betas={self.betas!r} must be two numbers")
        betas = tuple(checks.real_number("betas", beta, zero=True) for beta in self.betas)
        if max(betas) >= 1:
            raise ValueError(f"betas={self.betas!r} must be below one")
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "eps", checks.real_number("eps", self.eps))

    def settings(self, rates: Floats, done: int) -> Floats:
        updates = np.arange(done + 1, done + 1 + len(rates))
        beta1, beta2 = self.betas
        rows = super().settings(rates, done)
        rows[:, 0] = rates / (1 - integer_power(beta1, updates))
        rows[:, 1:4] = beta1, beta2, self.eps
        rows[:, 4] = np.sqrt(1 - integer_power(beta2, updates))
        return rows


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adagrad, Adam)}


def get_optimizer(value: str | Optimizer) -> Optimizer:
    """Return an optimizer from its name, with its defaults, or as it is."""
    if isinstance(value, Optimizer):
        if type(value) not in OPTIMIZERS.values():
            raise TypeError(f"optimizer={value!r} must be one of fastrnn's: its update is a kernel")
        return value
    return OPTIMIZERS[checks.one_of("optimizer", value, OPTIMIZERS)]()


def integer_power(base: float, exponents: NDArray[np.int64]) -> Floats:
    """``base ** exponents`` by repeated squaring: products alone, so the same bits on every machine."""
    result = np.ones(len(exponents))
    square, left = base, exponents.copy()
    while left.any():
        result[left % 2 == 1] *= square
        square *= square
        left //= 2
    return result


def _constant(update: Floats, part: Floats) -> Floats:  # noqa: ARG001
    return np.ones(len(update))


def _linear(update: Floats, part: Floats) -> Floats:
    return np.minimum(1, (update + 1) / 100) * (1 - part)


#: Factors of the learning rate, by name, from the number of each update and the part of training that
#: is done before it. ``linear`` warms up over a hundred updates and decays to zero.
SCHEDULES: dict[str, Callable[[Floats, Floats], Floats]] = {"constant": _constant, "linear": _linear}
