"""The contract for tests: its kernels, and the generator of the Python modules."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fastrnn.backends.backend import Backend
from fastrnn.backends.contract import KERNELS, Argument, Kernel
from fastrnn.core import constants

__all__ = ["HEADER", "Argument", "Kernel", "call", "constant", "generator", "kernels"]

HEADER = Path(__file__).parents[2] / "csrc" / "fastrnn.h"


@cache
def generator() -> ModuleType:
    """The script ``csrc/generate_contract.py`` as a module."""
    spec = importlib.util.spec_from_file_location("generate_contract", HEADER.parent / "generate_contract.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kernels() -> tuple[Kernel, ...]:
    """Every kernel of the header, in its order."""
    return tuple(KERNELS.values())


def constant(name: str) -> int:
    """The value of a constant of the header."""
    value = getattr(constants, name)
    assert isinstance(value, int)
    return value


def call(backend: Backend, name: str, arguments: Sequence[Any]) -> None:
    """Call a kernel with arguments in the order of the contract."""
    names = [argument.name for argument in KERNELS[name].arguments]
    getattr(backend, name)(**dict(zip(names, arguments, strict=True)))
