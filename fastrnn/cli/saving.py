"""Writes a model, to another place if it cannot be written where the user wants it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastrnn.core.terminal import tell

if TYPE_CHECKING:
    from fastrnn.model.model import Model


def require_no_input(option: str, output: str, files: Iterable[str]) -> None:
    """Raise a ``ValueError`` if an option's file is an input, under any name: it would be replaced."""
    for file in files if Path(output).exists() else ():
        try:
            read = os.fstat(0) if file == "-" else Path(file).stat()
        except OSError:  # the input does not exist; opening it raises the error
            continue
        if os.path.samestat(read, Path(output).stat()):
            raise ValueError(f"{option} {output} is the file that is trained on: it would be replaced")


def save(model: Model, output: str, files: Iterable[str], told: str) -> bool:
    """Write a model as `_write` does; after one Ctrl-C, write again."""
    try:
        return _write(model, output, files, told)
    except KeyboardInterrupt:
        return _write(model, output, files, told)


def _write(model: Model, output: str, files: Iterable[str], told: str) -> bool:
    """Write a model, to another place if needed; return whether it is at ``output``.

    On a terminal the user is asked for another place. Then the folder for temporary files, the home folder
    and the current folder are tried. A message, which begins with ``told``, says where the model is; there is
    none if ``told`` is empty and the model is at ``output``.
    """
    place: str | None = output
    others = _other_places(output)
    while place is not None:
        try:
            require_no_input("--output", place, files)
            model.save(place)
        except (OSError, MemoryError, ValueError) as error:
            tell(f"{place} cannot be written: {error}")
            place = next(others, None)
        else:
            if told or place != output:
                tell(f"{told or 'wrote'} {place}: {model!r}")
            return place == output
    raise click.ClickException("the model could not be written anywhere, and is lost")


def _other_places(output: str) -> Iterator[str]:
    """Yield other places for a model that cannot be written where the user wants it."""
    import tempfile

    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty():
        try:
            while place := click.prompt("another --output", default="", show_default=False, err=True):
                yield place
        except click.Abort:
            tell("")
    stem = Path(output).stem or "model"
    for folder in (tempfile.gettempdir(), Path.home(), Path.cwd()):
        try:
            with tempfile.NamedTemporaryFile(
                prefix=f"{stem}-", suffix=".safetensors", dir=folder, delete=False
            ) as file:
                pass
        except OSError:
            continue
        yield file.name
        Path(file.name).unlink(missing_ok=True)  # it was not used
