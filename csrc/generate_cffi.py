"""Write the C source of the cffi module, from the contract's header.

CMake runs ``python generate_cffi.py NAME OUTPUT``; NAME is the full dotted name of the module. The header
declares each kernel once, for a type ``real``; the module has each kernel for both precisions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cffi
from generate_contract import Kernel, read

HERE = Path(__file__).parent
C_TYPES = {"_f32": "float", "_f64": "double", "": "double"}


def prototype(kernel: Kernel, suffix: str) -> str:
    """A kernel's prototype with this ending of its name."""
    arguments = [
        ("const " if argument.role == "input" else "")
        + (C_TYPES[suffix] if argument.c_type == "real" else argument.c_type)
        + (" " if argument.role == "number" else " *")
        + argument.name
        for argument in kernel.arguments
    ]
    return f"int32_t fr_{kernel.name}{suffix}({', '.join(arguments)});"


def build_information() -> str:
    """The prototypes of build_info.h, without comments and preprocessor lines."""
    header = (HERE / "build_info.h").read_text(encoding="utf-8")
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return re.sub(r"^#.*$", "", header, flags=re.MULTILINE)


def all_declarations() -> str:
    """All declarations of the module: each kernel for its precisions, and those of build_info.h."""
    kernels = read().kernels
    prototypes = [prototype(kernel, suffix) for kernel in kernels for suffix in kernel.suffixes]
    return "\n".join([*prototypes, build_information()])


def main() -> None:
    name, output = sys.argv[1:]
    ffi = cffi.FFI()
    text = all_declarations()
    ffi.cdef(text)
    ffi.set_source(name, "#include <stdint.h>\n" + text)
    ffi.emit_c_code(output)


if __name__ == "__main__":
    main()
