"""Where a model is written, and where else it goes when it cannot be written there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastrnn.core.terminal import tell

if TYPE_CHECKING:
    from fastrnn.model.model import Model


def require_no_input(output: str, file: str | None) -> None:
    """Refuse an output that is the input, under any name: the model would replace the text."""
    if file is None or not Path(output).exists():
        return
    try:
        read = os.fstat(0) if file == "-" else Path(file).stat()
    except OSError:  # there is no such file, which is told when it is opened
        return
    if os.path.samestat(read, Path(output).stat()):
        raise ValueError(f"--output {output} is the file that is trained on: the model would replace it")


def save(model: Model, output: str, file: str | None, told: str) -> bool:
    """Write a model in spite of one Ctrl-C; see `_write`."""
    try:
        return _write(model, output, file, told)
    except KeyboardInterrupt:
        return _write(model, output, file, told)


def _write(model: Model, output: str, file: str | None, told: str) -> bool:
    """Write a model, if need be to another place; return whether it is where it was asked for.

    Another place is asked for on a terminal; else the folder for temporary files and the user's own are
    tried. It is said where the model is, after the words ``told``, if there are any or it is another place.
    """
    place: str | None = output
    others = _other_places(output)
    while place is not None:
        try:
            require_no_input(place, file)
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
    """Where a model could go that cannot be written where it should."""
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
        Path(file.name).unlink(missing_ok=True)  # it was not written
