"""Write the Python modules that repeat the contract of ``fastrnn.h``: each fact is typed once, in the header.

``python csrc/generate_contract.py`` writes ``fastrnn/core/constants.py`` (numbers, and tables of their
names), ``fastrnn/backends/contract.py`` (kernels and their arguments) and ``fastrnn/backends/kernels.py``
(their signatures). ``fastrnn/backends/numba/constants.py`` is a copy of the first, since Numba's cache
notices changes only in its own folder. The results are committed, and a test generates them again. Run this
program after each change of the header.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "fastrnn"
WIDTH = 110

#: The type of an argument in a kernel's Python signature, by its C type: of an array, and of a number.
ARRAY_TYPES = {"real": "Reals", "double": "Floats", "int32_t": "Ids", "uint8_t": "Flags", "int64_t": "Sizes"}
NUMBER_TYPES = {"double": "float", "int64_t": "int"}

#: The role of an array by the mark in its comment; an array without a mark is an input or an output.
ROLES = {"(in, out)": "updated", "(+=)": "added", "(scratch)": "scratch"}

#: The tables of names. The key is a member of the enumeration; the value is the table's name and its comment.
TABLES = {
    "EXP": ("FUNCTIONS", "The functions of `elementary`, in the order of their numbers."),
    "LSTM": ("CELL_NAMES", "The names of the cells, in the order of their numbers."),
    "SGD": ("OPTIMIZER_NAMES", "The names of the optimizers, in the order of their numbers."),
    "MEAN": ("REDUCTIONS", "The reductions of a window's losses, in the order of their numbers."),
    "VOCABULARY": ("PLAN", "The fields of a plan, in order; the fields of each layer follow them."),
    "WEIGHT_HH": ("PLAN_OF_LAYER", "The fields of a layer in a plan, in order."),
}

#: The tables whose enumerations end with how many there are.
COUNTED = {"CELL_NAMES", "PLAN", "PLAN_OF_LAYER"}


class Member(NamedTuple):
    """A member of an enumeration, without its prefix, and the comment after it."""

    name: str
    value: int
    note: str


class Enumeration(NamedTuple):
    """An enumeration, and the comment before it."""

    note: str
    members: tuple[Member, ...]


class RealConstant(NamedTuple):
    """A number of each precision, as C writes it, without its prefix, and the comment before it."""

    note: str
    name: str
    single: str
    double: str


class Argument(NamedTuple):
    """An argument of a kernel; an array has a shape in letters, which is () if the array is flat."""

    name: str
    c_type: str
    role: str
    shape: tuple[str, ...]


class Kernel(NamedTuple):
    """A kernel and its arguments, in order."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of its names in C: of both precisions, or of one function without reals."""
        return ("_f32", "_f64") if any(a.c_type == "real" for a in self.arguments) else ("",)


class Header(NamedTuple):
    """What the header states."""

    enumerations: tuple[Enumeration, ...]
    reals: tuple[RealConstant, ...]
    kernels: tuple[Kernel, ...]


# ---- Reading -----------------------------------------------------------------------------------------

_ENUMERATION = re.compile(r"(?:/\*((?:(?!\*/).)*)\*/\s*)?^enum \{(.*?)\};", re.DOTALL | re.MULTILINE)
_MEMBER = re.compile(r"\bFR_(\w+) = (\d+)\s*,?[ \t]*(?:/\*(.*?)\*/)?", re.DOTALL)
_REAL = re.compile(
    r"/\*((?:(?!\*/).)*)\*/\s*^#define FR_(\w+) FR_BY_PRECISION\((\S+)f, (\S+)\)", re.DOTALL | re.MULTILINE
)
_KERNEL = re.compile(r"^fr_status (?:FR\((\w+)\)|fr_(\w+))\((.*?)\);", re.DOTALL | re.MULTILINE)
#: A declaration, then a comma, then a comment.
_ARGUMENT = re.compile(r"(const )?\b(\w+) (\*?)(\w+)\s*,?\s*(?:/\*(.*?)\*/)?", re.DOTALL)


def read(text: str | None = None) -> Header:
    """Read the header."""
    text = (HERE / "fastrnn.h").read_text(encoding="utf-8") if text is None else text
    enumerations = tuple(
        Enumeration(_plain(match[1]), _members(match[2])) for match in _ENUMERATION.finditer(text)
    )
    reals = tuple(RealConstant(_plain(match[1]), *match.groups()[1:]) for match in _REAL.finditer(text))
    kernels = tuple(
        Kernel(match[1] or match[2], tuple(map(_argument, _ARGUMENT.finditer(match[3]))))
        for match in _KERNEL.finditer(text)
    )
    return Header(enumerations, reals, kernels)


def _plain(comment: str | None) -> str:
    """A comment as one line."""
    return re.sub(r"\s*\n\s*\*?\s*", " ", comment or "").strip()


def _members(body: str) -> tuple[Member, ...]:
    found = tuple(Member(m[1], int(m[2]), _plain(m[3])) for m in _MEMBER.finditer(body))
    bare = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    for member in filter(None, map(str.strip, bare.split(","))):
        if not re.fullmatch(r"FR_\w+ = \d+", member):
            raise ValueError(f"a member of an enumeration must be FR_NAME = number, and is {member}")
    return found


def _argument(match: re.Match[str]) -> Argument:
    constant, c_type, star, name, note = match.groups()
    if not star:
        return Argument(name, c_type, "number", ())
    note = _plain(note)
    shape = re.match(r"\(((?:[^()]|\([^()]*\))*)\)", note)
    letters = tuple(part.strip().removeprefix("FR_") for part in shape[1].split(",")) if shape else ()
    named = [role for sign, role in ROLES.items() if sign in note]
    return Argument(name, c_type, "input" if constant else (*named, "output")[0], letters)


# ---- Writing -----------------------------------------------------------------------------------------


def constants(header: Header) -> Iterator[str]:
    """The numbers of the header, each enumeration under its comment; of both precisions, by dtype."""
    taken = {argument.name for kernel in header.kernels for argument in kernel.arguments}
    for enumeration in header.enumerations:
        yield ""
        yield from (f"# {line}" for line in textwrap.wrap(enumeration.note, WIDTH - 2))
        for member in enumeration.members:
            # a constant must not have the name of a kernel's argument
            name = f"{member.name}_" if member.name in taken else member.name
            yield f"{name}: Final = {member.value}" + (f"  # {member.note}" if member.note else "")
    for real in header.reals:
        yield ""
        yield from (f"# {line}" for line in textwrap.wrap(real.note, WIDTH - 2))
        by_dtype = {"float32": real.single, "float64": real.double}
        items = [f'"{dtype}": float.fromhex("{number}")' for dtype, number in by_dtype.items()]
        yield f"{real.name}: Final = {{{', '.join(items)}}}"


def tables(header: Header) -> Iterator[str]:
    """The tables of names, and the texts of the statuses."""
    kernels = {kernel.name for kernel in header.kernels}
    by_member = {member.name: group for group in header.enumerations for member in group.members}
    for anchor, (table, what) in TABLES.items():
        names = [member.name.lower() for member in by_member[anchor].members]
        if table == "OPTIMIZER_NAMES":
            names = [name for name in names if f"{name}_update" in kernels]
        elif table in COUNTED:
            names.pop()  # the last member is their number
        values = [member.value for member in by_member[anchor].members][: len(names)]
        if values != list(range(len(names))):
            raise ValueError(f"the members of {table} must be numbered from 0 on: {values}")
        yield ""
        yield f"#: {what}"
        yield from filled(f"{table}: Final = (", [f'"{name}"' for name in names], ")")
    yield ""
    yield "#: The text of each status except success."
    yield "STATUS: Final = {"
    for member in by_member["OK"].members:
        if member.value:
            yield f"    {member.value}: {_quoted(member.note)},"
    yield "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def filled(start: str, items: Iterable[str], end: str, indent: str = "") -> Iterator[str]:
    """A bracketed list on one line if it fits, else on several filled lines."""
    listed = list(items)
    line = f"{indent}{start}{', '.join(listed)}{end}"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{indent}{start}"
    line = f"{indent}   "
    for item in listed:
        if len(line) + len(item) + 2 > WIDTH:
            yield line
            line = f"{indent}   "
        line += f" {item},"
    yield line
    yield f"{indent}{end}"


HEAD = '''"""{what}

Generated by csrc/generate_contract.py from csrc/fastrnn.h: change the header, then run `make contract`.
"""
'''


def core_module(header: Header) -> str:
    """The module of numbers and tables of names."""
    head = HEAD.format(what="The numbers of the contract, and tables of their names.")
    lines = ["", "from typing import Final", "", "# fmt: off", *constants(header), *tables(header), ""]
    return head + "\n".join(lines)


ARGUMENTS_HEAD = '''
from typing import Final, NamedTuple


class Argument(NamedTuple):
    """An argument: its C type and its role. The role of a number is ``"number"``; an array has one of five.

    ``"output"``: written. ``"updated"``: read and replaced. ``"added"``: added to. ``"scratch"``: holds
    nothing before or after the call. ``"input"``: only read. An array has a shape in the header's letters
    and constants; a flat array has an empty shape.
    """

    name: str
    c_type: str
    role: str
    shape: tuple[str, ...] = ()

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return self.role != "number"


class Kernel(NamedTuple):
    """A kernel and its arguments, in order."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def has_reals(self) -> bool:
        """Whether it exists for both precisions."""
        return any(argument.c_type == "real" for argument in self.arguments)


# fmt: off
#: The kernels by name, in the header's order.
KERNELS: Final = {kernel.name: kernel for kernel in (
'''

METHODS_HEAD = '''
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Ids = NDArray[np.int32]
Flags = NDArray[np.uint8]
Sizes = NDArray[np.int64]


# fmt: off
class Kernels:
    """The kernels of a backend as methods, which take arguments by name and raise an error on failure."""

    _kernels: Mapping[str, Callable[..., int]]

    def _fail(self, name: str, status: int) -> None:
        """Raise the error that a kernel's status stands for."""
        raise NotImplementedError
'''


def contract_module(header: Header) -> str:
    """The module of kernels and their arguments."""
    lines: list[str] = []
    for kernel in header.kernels:
        items = [_argument_row(argument) for argument in kernel.arguments]
        lines += filled(f'Kernel("{kernel.name}", (', items, ")),", "    ")
    head = HEAD.format(what="The kernels of the contract and their arguments.")
    return head + ARGUMENTS_HEAD + "\n".join([*lines, ")}", ""])


def kernels_module(header: Header) -> str:
    """The module of the kernels' signatures in Python."""
    lines = [line for kernel in header.kernels for line in ("", *_method(kernel))]
    head = HEAD.format(what="The signatures of the contract's kernels in Python.")
    return head + METHODS_HEAD + "\n".join([*lines, ""])


def _argument_row(argument: Argument) -> str:
    values = f'"{argument.name}", "{argument.c_type}", "{argument.role}"'
    shape = ", ".join(f'"{letter}"' for letter in argument.shape)
    if len(argument.shape) == 1:
        shape += ","
    return f"Argument({values}, ({shape}))" if shape else f"Argument({values})"


def _method(kernel: Kernel) -> Iterator[str]:
    """A method that takes the arguments by name and passes them to the kernel in order."""
    typed = [
        f"{a.name}: {(NUMBER_TYPES if a.role == 'number' else ARRAY_TYPES)[a.c_type]}"
        for a in kernel.arguments
    ]
    yield from filled(f"def {kernel.name}(", ["self", "*", *typed], ") -> None:", "    ")
    names = [argument.name for argument in kernel.arguments]
    yield from filled(f'status = self._kernels["{kernel.name}"](', names, ")", " " * 8)
    yield "        if status != 0:"
    yield f'            self._fail("{kernel.name}", status)'


def modules(header: Header) -> dict[str, str]:
    """The text of each generated module, by its path in the package."""
    return {
        "core/constants.py": core_module(header),
        "backends/numba/constants.py": core_module(header),
        "backends/contract.py": contract_module(header),
        "backends/kernels.py": kernels_module(header),
    }


def main() -> None:
    """Write the modules."""
    for path, text in modules(read()).items():
        (PACKAGE / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
