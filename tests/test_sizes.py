"""Limits on the sizes of files and functions of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

#: The most lines of a file and of a function's body without its docstring; the most positional parameters.
MAX_FILE, MAX_BODY, MAX_POSITIONAL = 450, 60, 8


def functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path):
    is_reference = path.name in {"reference.py", "reference_counts.py"}
    is_kernels = is_reference or path.is_relative_to(PACKAGE / "backends" / "numba")
    if not is_reference:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE
    for function in functions(path):
        body = function.body[ast.get_docstring(function, clean=False) is not None :]
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= MAX_BODY, function.name
        positional = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        assert len(set(positional) - {"self", "cls"}) <= MAX_POSITIONAL or is_kernels, function.name
