"""The program as its tests run it: in this process, or in one of its own."""

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


#: Before click 8.2 the two streams are kept apart only on demand.
APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner(**APART).invoke(main, [str(argument) for argument in arguments], input=stdin)


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The program, started as a shell in the foreground does; it is killed if it does not end."""
    command = [sys.executable, "-m", "fastrnn", *map(str, arguments)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()
