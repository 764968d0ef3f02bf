"""``fastrnn demo``: train on the source of Python's standard library."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from fastrnn.cli.program import backend_option, log_on_stderr


@click.command()
@click.option("--seconds", type=float, default=20.0, show_default=True, help="How long to train.")
@click.option(
    "-o", "--output", default="demo.safetensors", show_default=True, help="Where to write the model."
)
@backend_option
def demo(seconds: float, output: str, backend: str) -> None:
    """Train on the source of Python's standard library, sample, and compare with gzip and xz."""
    from fastrnn.cli.demonstration import run
    from fastrnn.core.atomic import require_place

    with log_on_stderr(logging.INFO):
        require_place(output)  # so that this fails before training, not after it
        run(seconds, Path(output), backend)
