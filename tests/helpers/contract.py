"""The contract's header as data: every kernel, its arguments in order, their types and shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HEADER = Path(__file__).parents[2] / "csrc" / "fastrnn.h"


@dataclass(frozen=True)
class Argument:
    """One argument: its C type without const, and for an array its shape and whether it is only read."""

    name: str
    c_type: str
    is_array: bool
    is_input: bool
    shape: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Kernel:
    """One kernel."""

    name: str
    arguments: tuple[Argument, ...]


#: A declaration, the comma after it, and the comment after that.
_ARGUMENT = re.compile(r"(const )?\b(\w+) (\*?)(\w+)\s*,?\s*(?:/\*(.*?)\*/)?", re.DOTALL)


def _parse_argument(match: re.Match[str]) -> Argument:
    note = (match[5] or "").strip()
    shape = re.match(r"\(([^)]*)\)", note)
    letters = tuple(part.strip() for part in shape[1].split(",")) if shape else ()
    return Argument(match[4], match[2], bool(match[3]), bool(match[1]), letters, note)


def _parse_arguments(text: str) -> tuple[Argument, ...]:
    return tuple(map(_parse_argument, _ARGUMENT.finditer(text)))


@cache
def kernels() -> tuple[Kernel, ...]:
    """Every kernel of the header, in its order."""
    text = HEADER.read_text()
    prototypes = re.finditer(r"^fr_status FR\((\w+)\)\((.*?)\);", text, flags=re.DOTALL | re.MULTILINE)
    return tuple(Kernel(m[1], _parse_arguments(m[2])) for m in prototypes)


@cache
def constants() -> dict[str, int]:
    """The values of the header's enumerations."""
    return {name: int(value) for name, value in re.findall(r"\b(FR_\w+) = (\d+)", HEADER.read_text())}
