"""Bars of progress, on a terminal or in a notebook; lines of the log where there is neither."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from fastrnn.core.terminal import STDERR

Item = TypeVar("Item")

logger = logging.getLogger("fastrnn")

#: Seconds from one line of progress to the next, if no bar is shown.
PROGRESS_SECONDS = 5.0


def progress_bar(**options: Any) -> Any:
    """A bar that counts to one, or ``None`` if stderr is neither a terminal nor in a notebook.

    ``options`` replace those of tqdm.
    """
    notebook = _in_notebook()
    if not notebook and not STDERR.isatty():
        return None
    if notebook:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets, tqdm warns and shows a bar of characters
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    layout = "{percentage:3.0f}% {bar} {elapsed}<{remaining} {desc}"
    return tqdm(**{"total": 1.0, "file": STDERR, "bar_format": layout, "dynamic_ncols": True, **options})


def counted(items: Iterable[Item], total: int | None, unit: str) -> Iterator[Item]:
    """Yield the items, and show how many were yielded; ``total`` is ``None`` if it is not known."""
    bar = progress_bar(total=total, unit=unit, bar_format=None)
    told, of_total = time.monotonic(), "" if total is None else f" of {total:,}"
    try:
        for count, item in enumerate(items, 1):
            if bar is not None:
                bar.update()
            elif time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                logger.info("%s%s %ss", f"{count:,}", of_total, unit)
            yield item
    finally:
        if bar is not None:
            bar.close()


def _in_notebook() -> bool:
    """Whether this runs in Jupyter or a similar notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
