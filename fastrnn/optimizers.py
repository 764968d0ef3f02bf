"""Optimizers. They hold settings; a kernel does the arithmetic of an update.

An optimizer has the number of its kernel and of the moments of each parameter, and makes from learning rates
the rows of settings that the kernel reads. Names and defaults are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, constants
from fastrnn.core.arithmetic import Floats, integer_power
from fastrnn.core.constants import (
    ADAGRAD_EPSILON,
    ADAM_BETA1,
    ADAM_BETA2,
    ADAM_CORRECTION,
    ADAM_EPSILON,
    ADAM_KEEP,
    LEARNING_RATE,
    RMSPROP_ALPHA,
    RMSPROP_EPSILON,
    SETTINGS,
    SGD_MOMENTUM,
    SGD_OF_GRADIENT,
    SGD_OF_MOMENT,
)


@dataclass(frozen=True)
class Optimizer:
    """The base class of the optimizers."""

    name: ClassVar[str]
    #: The optimizer's number in `train_windows`.
    number: ClassVar[int]

    @property
    def moments(self) -> int:
        """The number of moments of each parameter."""
        return 1

    def initial_moments(self, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The moments (M, n) before the first update."""
        return np.zeros((self.moments, n), dtype)

    def describe(self) -> dict[str, Any]:
        """Return the name and the settings as plain data, for the model file."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {"name": self.name, **plain}

    def settings(self, learning_rates: Floats, done: int) -> Floats:  # noqa: ARG002
        """Return a row of settings for each of these learning rates; ``done`` updates were done before."""
        rows = np.zeros((len(learning_rates), SETTINGS))
        rows[:, LEARNING_RATE] = learning_rates
        return rows


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, as in ``torch.optim.SGD`` with ``dampening=0``.

    Parameters
    ----------
    momentum
        The factor of the previous step in each update, from 0 to below 1. At 0 there are no moments.
    nesterov
        Whether to use Nesterov's momentum; it needs a momentum above 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or of the wrong type.
    """

    momentum: float = 0.0
    nesterov: bool = False

    name: ClassVar[str] = "sgd"
    number: ClassVar[int] = constants.SGD

    def __post_init__(self) -> None:
        object.__setattr__(self, "momentum", checks.fraction("momentum", self.momentum, zero=True))
        object.__setattr__(self, "nesterov", checks.flag("nesterov", self.nesterov))
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum above zero")

    @property
    def moments(self) -> int:
        return int(self.momentum > 0)

    def settings(self, learning_rates: Floats, done: int) -> Floats:
        rows = super().settings(learning_rates, done)
        rows[:, SGD_MOMENTUM] = self.momentum
        of_both = (1, self.momentum) if self.nesterov else (0, 1)
        rows[:, [SGD_OF_GRADIENT, SGD_OF_MOMENT]] = of_both
        return rows


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011), as in ``torch.optim.Adagrad``.

    With ``initial_accumulator_value=1e-8, eps=0`` it is min-char-rnn's, which divides by ``sqrt(m + 1e-8)``.

    Parameters
    ----------
    initial_accumulator_value
        The first value of the sum of squared gradients, zero or more.
    eps
        This is added to the root of the sum, zero or more. Not both may be zero.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or no number.
    """

    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    name: ClassVar[str] = "adagrad"
    number: ClassVar[int] = constants.ADAGRAD

    def __post_init__(self) -> None:
        for name in ("initial_accumulator_value", "eps"):
            object.__setattr__(self, name, checks.real_number(name, getattr(self, name), zero=True))
        if self.initial_accumulator_value == 0 and self.eps == 0:
            raise ValueError("eps=0 needs an initial_accumulator_value above zero, or it divides by zero")

    def initial_moments(self, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.full((1, n), self.initial_accumulator_value, dtype)

    def settings(self, learning_rates: Floats, done: int) -> Floats:
        rows = super().settings(learning_rates, done)
        rows[:, ADAGRAD_EPSILON] = self.eps
        return rows


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012), not centered, as in ``torch.optim.RMSprop`` and char-rnn.

    Parameters
    ----------
    alpha
        The decay of the moving average of the squared gradients, from 0 to below 1.
    eps
        This is added to the root of the average, above zero.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or no number.
    """

    alpha: float = 0.99
    eps: float = 1e-8

    name: ClassVar[str] = "rmsprop"
    number: ClassVar[int] = constants.RMSPROP

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.fraction("alpha", self.alpha, zero=True))
        object.__setattr__(self, "eps", checks.real_number("eps", self.eps))

    def settings(self, learning_rates: Floats, done: int) -> Floats:
        rows = super().settings(learning_rates, done)
        rows[:, [RMSPROP_ALPHA, RMSPROP_EPSILON]] = self.alpha, self.eps
        return rows


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), as in ``torch.optim.Adam``.

    Parameters
    ----------
    betas
        The decays of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps
        This is added to the root of the second average, above zero.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or no number.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    name: ClassVar[str] = "adam"
    number: ClassVar[int] = constants.ADAM

    def __post_init__(self) -> None:
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise ValueError(f"betas={self.betas!r} must be two numbers")
        betas = tuple(checks.fraction("betas", beta, zero=True) for beta in self.betas)
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "eps", checks.real_number("eps", self.eps))

    @property
    def moments(self) -> int:
        return 2

    def settings(self, learning_rates: Floats, done: int) -> Floats:
        updates = np.arange(done + 1, done + 1 + len(learning_rates))
        beta1, beta2 = self.betas
        rows = super().settings(learning_rates, done)
        rows[:, LEARNING_RATE] = learning_rates / (1 - integer_power(beta1, updates))
        rows[:, [ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON]] = beta1, beta2, self.eps
        rows[:, ADAM_CORRECTION] = np.sqrt(1 - integer_power(beta2, updates))
        rows[:, ADAM_KEEP] = 1
        return rows


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), as in ``torch.optim.AdamW``.

    Parameters
    ----------
    betas, eps
        As in `Adam`.
    weight_decay
        Zero or more. Each update first multiplies all parameters, also the biases, by
        ``1 - learning_rate * weight_decay``.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or no number.
    """

    weight_decay: float = 0.01

    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        super().__post_init__()
        weight_decay = checks.real_number("weight_decay", self.weight_decay, zero=True)
        object.__setattr__(self, "weight_decay", weight_decay)

    def settings(self, learning_rates: Floats, done: int) -> Floats:
        rows = super().settings(learning_rates, done)
        rows[:, ADAM_KEEP] = 1 - learning_rates * self.weight_decay
        return rows


#: The optimizers by their names. It is read-only, because each optimizer needs a kernel.
OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType(
    {kind.name: kind for kind in (SGD, Adagrad, RMSprop, Adam, AdamW)}
)


def get_optimizer(value: str | Mapping[str, Any] | Optimizer) -> Optimizer:
    """Return the optimizer that a name or a description says, or an optimizer as it is.

    A description is a mapping of ``name`` and settings, as `Optimizer.describe` returns it.
    """
    if isinstance(value, Optimizer):
        if type(value) not in OPTIMIZERS.values():
            raise TypeError(f"optimizer={value!r} must be one of fastrnn's: its update is a kernel")
        return value
    return checks.kind_of("optimizer", value, OPTIMIZERS)
