"""The progress of a training: a bar on a terminal or in a notebook, else a line of the log now and then."""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Self

from fastrnn.core.progress_bar import PROGRESS_SECONDS, progress_bar
from fastrnn.training.events import Callback, Training, Updates
from fastrnn.training.recorder import bits_per_symbol, validation_text

logger = logging.getLogger("fastrnn")


class ProgressDisplay(Callback):
    """Shows the progress. It is a context: at its end the bar is closed."""

    def __init__(self) -> None:
        self._bar: Any = None
        #: The fraction that the bar shows.
        self._done = 0.0
        self._told = self._began = time.monotonic()
        #: The symbols that this process has trained on.
        self._symbols = 0
        #: The fraction that was done when this process began to train.
        self._done_before = 0.0
        #: What was said of the last updates.
        self._summary = ""

    def __enter__(self) -> Self:
        self._bar = progress_bar()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def announce(self, summary: str) -> None:
        """Show a message before training begins."""
        if self._bar is not None:
            self._bar.set_description_str(summary)
        else:
            logger.info(summary)

    def before_training(self, training: Training) -> None:
        """Take the time."""
        self._began = time.monotonic()
        self._done = self._done_before = float(training.fraction_done(training.updates))
        if self._bar is not None and self._done:
            self._bar.n = self._bar.initial = self._done

    def evaluated(self, fraction: float) -> None:
        """Show how much of the held-out part was read when training has ended."""
        if self._bar is not None:
            measuring = f"measuring on all that is held out: {fraction:.0%}"
            self._bar.set_description_str(measuring if fraction < 1 else self._summary)
        elif time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            logger.info("%3.0f %% of all that is held out was read", 100 * fraction)

    def before_refit(self, training: Training) -> None:
        """Begin anew."""
        self._began, self._done, self._done_before = time.monotonic(), 0.0, 0.0
        if self._bar is not None:
            self._bar.reset()

    def after_updates(self, training: Training, updates: Updates) -> None:
        """Show the fraction that is done, the loss, and thousands of symbols per second."""
        self._symbols += training.symbols(updates.first, len(updates.losses))
        if self._bar is None and time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        done, history = float(training.fraction_done(training.updates)), training.model.history
        bits, unit = bits_per_symbol(training, updates.first, updates.losses), training.model.vocabulary.unit
        summary = "refit, " if training.is_refit else ""
        summary += f"update {training.updates:,}: {bits:.3f} bits/{unit}"
        summary += validation_text(history[-1] if history else {})
        speed = self._symbols / max(time.monotonic() - self._began, 1e-9)
        summary += f", {speed / 1000:,.0f} k {unit}s/s"
        self._summary = summary
        if self._bar is not None:
            self._bar.set_description_str(summary, refresh=False)
            self._bar.update(done - self._done)
            self._done = done
            return
        self._told = time.monotonic()
        new = done - self._done_before
        left = (self._told - self._began) * (1 - done) / new if new > 0 else math.inf
        logger.info("%3.0f %% done, about %.0f s left: %s", 100 * done, left, summary)

    def after_training(self, training: Training) -> None:
        """Fill the bar, also if training ends early: a notebook shows a bar that is not full as an error."""
        if self._bar is not None and training.is_done:
            self._bar.n = self._bar.total
            self._bar.refresh()
