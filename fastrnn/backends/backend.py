"""A backend: the kernels of one implementation, and a description of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastrnn.backends.kernels import Kernels
from fastrnn.core import checks
from fastrnn.core.constants import STATUS
from fastrnn.errors import BackendUnavailableError

Kernel = Callable[..., int]


@dataclass(frozen=True)
class Description:
    """The version of a backend, its vectors' width in bits (0: not known), and whether fma is in hardware.

    ``shares_work`` says whether its kernels divide their work among threads.
    """

    version: str
    vector_bits: int
    fma: bool
    shares_work: bool = True


class Backend(checks.Sealed, Kernels):
    """The kernels of one implementation: each is a method that takes its arguments by name."""

    name: Final[str]
    description: Final[Description]

    def __init__(self, name: str, description: Description, kernels: Mapping[str, Kernel]) -> None:
        self.name = name
        self.description = description
        self._kernels = dict(kernels)

    def bound(self, name: str, *leading: Any) -> Callable[..., None]:
        """A kernel with its leading arguments, all its arrays among them, for many short calls. Internal.

        The function takes the other arguments, which are numbers. The arrays are checked here, once.
        """
        kernel: Any = self._kernels[name]
        call = kernel.bound(*leading) if hasattr(kernel, "bound") else partial(kernel, *leading)

        def checked(*numbers: int) -> None:
            status = call(*numbers)
            if status != 0:
                self._fail(name, status)

        return checked

    def _fail(self, name: str, status: int) -> None:
        raise RuntimeError(f"kernel {name} of {self.name}: {STATUS.get(status, status)}")

    def __repr__(self) -> str:
        return f"<fastrnn backend {self.name!r}: {self.description.version}>"


def forced_isa(runs_here: Sequence[str]) -> str | None:
    """Return the instruction set that the environment variable ``FASTRNN_ISA`` forces, if any, for tests.

    It is ``v4``, ``v3`` or ``baseline``, like the names of the C builds. The compiled backends use it.

    Raises
    ------
    BackendUnavailableError
        The processor cannot run it, or the name is not known.
    """
    isa = os.environ.get("FASTRNN_ISA")
    if isa and isa not in runs_here:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={isa!r} is not an instruction set that this processor runs; "
            f"set it to one of {', '.join(runs_here)}, or do not set it"
        )
    return isa or None
