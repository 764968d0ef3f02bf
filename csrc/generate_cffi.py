"""Write the C source of the cffi module, from the contract's header.

Called by CMake: ``python generate_cffi.py NAME OUTPUT``, where NAME is the module's full dotted name.
The header states each kernel once, for a type called ``real``; the module has it for both precisions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cffi

HERE = Path(__file__).parent
PRECISIONS = {"f32": "float", "f64": "double"}


def declarations(header: str) -> str:
    """The header's prototypes, without comments and preprocessor lines."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return re.sub(r"^#.*$", "", header, flags=re.MULTILINE)


def for_precision(prototypes: str, suffix: str, real: str) -> str:
    """The prototypes for one precision: ``FR(name)`` becomes ``fr_name_f32``, ``real`` float."""
    named = re.sub(r"\bFR\((\w+)\)", rf"fr_\1_{suffix}", prototypes)
    return re.sub(r"\breal\b", real, named)


def all_declarations() -> str:
    """Everything that the module offers: types and constants once, each kernel twice."""
    contract = declarations((HERE / "fastrnn.h").read_text())
    once, *kernels = re.split(r"^(?=fr_status FR\()", contract, flags=re.MULTILINE)
    prototypes = "".join(kernels)
    return "\n".join(
        [once]
        + [for_precision(prototypes, suffix, real) for suffix, real in PRECISIONS.items()]
        + [declarations((HERE / "build_info.h").read_text())]
    )


def main() -> None:
    name, output = sys.argv[1:]
    ffi = cffi.FFI()
    text = all_declarations()
    ffi.cdef(text)
    ffi.set_source(name, "#include <stdint.h>\n" + text)
    ffi.emit_c_code(output)


if __name__ == "__main__":
    main()
