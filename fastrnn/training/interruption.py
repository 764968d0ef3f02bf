"""Ctrl-C and SIGTERM during a training."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

#: The signals that end training, and the handlers that they have by default.
DEFAULTS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interruptions:
    """While this context lasts, the first signal asks training to end; the second one ends the call at once.

    In a call that may last, `at_once`, the first one raises a ``KeyboardInterrupt``. A signal whose handler
    is not Python's own is left to it, as are all signals outside of the main thread.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        #: The signal that came, or ``None``.
        self.asked: int | None = None
        #: Whether a second one came.
        self.is_second = False
        self._is_at_once = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, default in DEFAULTS.items():
                if signal.getsignal(number) is default:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            self.is_second = True
            self.__exit__()
            if number != signal.SIGINT:
                os.kill(os.getpid(), number)
            raise KeyboardInterrupt
        self.asked = number
        if self._is_at_once:
            raise KeyboardInterrupt

    def raise_if_asked(self) -> None:
        """Raise a ``KeyboardInterrupt`` if a signal has come."""
        if self.asked is not None:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A context for a call that may last and can be made again."""
        self._is_at_once = True
        try:
            self.raise_if_asked()
            yield
        finally:
            self._is_at_once = False
