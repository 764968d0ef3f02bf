"""Runs the program for tests, in this process or in its own."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from click.testing import CliRunner, Result

from fastrnn.cli.main import main

#: Options of a training that takes no time.
QUICK = ["--hidden-size", "8", "--steps", "30", "--seed", "0", "--backend", "numpy"]


#: Before click 8.2, this option separates the two streams.
APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner(**APART).invoke(main, [str(argument) for argument in arguments], input=stdin)


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program like a foreground job of a shell; it is killed if it does not end."""
    command = [sys.executable, "-m", "fastrnn", *map(str, arguments)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()
