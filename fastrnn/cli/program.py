"""What all commands use: the program with its errors and its log, and common options."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import fastrnn
from fastrnn.core.terminal import open_streams, raw, settle_streams, tell

#: The usual exit status after a signal: its number and this. That of Ctrl-C; if the reader of stdout ended.
SIGNALLED = 128
INTERRUPTED, BROKEN_PIPE = SIGNALLED + 2, SIGNALLED + 13

#: Errors that are shown without the name of their class.
PLAIN = (ValueError, TypeError, OSError, MemoryError, fastrnn.FastrnnError)


@contextmanager
def errors_for_people(status: int = 1) -> Iterator[None]:
    """Turn errors into one line on stderr and an exit status; that of an error of usage is 2."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort):  # click ends the program
        raise
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().rstrip("\n").split("\n"):
            tell(line)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  (users need no traceback)
        text, name = str(error), type(error).__name__
        tell(f"Error: {text if text and isinstance(error, PLAIN) else f'{name}: {text}'.removesuffix(': ')}")
        sys.exit(status)


def _tell_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Show a warning of Python as `warnings.showwarning` does, but escaped."""
    tell(f"{category.__name__}: {message}")


def _raw_option() -> click.Option:
    def ask(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
        if is_asked:
            context.find_root().with_resource(raw())

    return click.Option(
        ["--raw"],
        is_flag=True,
        is_eager=True,  # so that the errors of other options are shown so too
        expose_value=False,
        callback=ask,
        help="Write control characters as they are; else they are escaped on a terminal.",
    )


class Program(click.Group):
    """Commands that always end with an exit status, and show an error if it is not 0."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program; arguments as for `click.Command.main`."""
        open_streams()
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _tell_warning
                return super().main(*arguments, **options)
        finally:
            settle_streams()

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; each has the option --raw."""
        cmd.params.append(_raw_option())
        super().add_command(cmd, name)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the arguments."""
        with errors_for_people():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with errors_for_people():
            return super().invoke(ctx)


backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="c, numba, numpy, or auto: the first of these that can run here.",
)
seed_option = click.option("--seed", type=click.IntRange(min=0), help="The seed of the random draws.")
threads_option = click.option(
    "--threads", type=int, help="The most threads; the result does not depend on it.  [default: all cores]"
)
unknown_option = click.option(
    "--unknown",
    help="How to treat symbols that MODEL does not know: symbol (as the unknown symbol, if MODEL was trained "
    "with one), error, skip, or their probability.  [default: symbol, if MODEL has it, else error]",
)


adapt_option = click.option(
    "--adapt",
    help="counts: a model with counts (train --count-order) also counts what it reads, and the file that "
    "MODEL is stays as it is.  [default: nothing is learnt]",
)


def unknown_value(value: str | None) -> str | float | None:
    """Return the value of --unknown: a word or a probability; ``None`` if it was not given."""
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return value


class _Teller(logging.Handler):
    """Writes the log to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(self.format(record))


@contextmanager
def log_on_stderr(level: int) -> Iterator[None]:
    """Show the library's log on stderr, above a progress bar."""
    logger, handler = logging.getLogger("fastrnn"), _Teller()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
