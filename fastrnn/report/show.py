"""`fastrnn.show`: a page with what a model sees in a text, for a notebook or a file."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from typing import Any

from fastrnn.core.atomic import write_atomically
from fastrnn.core.checks import shown
from fastrnn.model.model import Model
from fastrnn.report.excerpt import Excerpt
from fastrnn.report.page import Names, Seen, render, template


@dataclass(frozen=True)
class Report:
    """What a model sees in a text, as one page of HTML; `fastrnn.show` returns one.

    A notebook shows the page. It loads nothing from anywhere.

    Attributes
    ----------
    html
        The page.
    """

    html: str = field(repr=False)

    @classmethod
    def of(cls, model: Model, excerpt: Excerpt, unknown: str | float | None, names: Names) -> Report:
        """The report of an excerpt. Internal."""
        page = template()
        return cls(render(page, Seen.of(model, excerpt, unknown), names))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, whole or not at all.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_atomically(path, self.html.encode())

    def _repr_html_(self) -> str:
        """The page in a frame of a notebook, apart from the notebook's own styles and scripts."""
        return (
            '<iframe title="What the model sees" sandbox="allow-scripts" width="100%" height="800" '
            f'style="border: 0" srcdoc="{html.escape(self.html)}"></iframe>'
        )


def show(model: Model, text: Any, *, unknown: str | float | None = None) -> Report:
    """Return a page with what a model sees in a text.

    The page has the text, coloured by surprisal, with the most probable symbols at each place; the hidden
    units that a simple property of the text explains best, as heat maps (after Karpathy, Johnson & Fei-Fei
    2015); the loss of the training; the calibration; and the strangest passages. In a notebook it is drawn;
    ``show(…).save("report.html")`` writes it to a file. It needs the package jinja2 (``pip install
    'fastrnn[report]'``).

    Parameters
    ----------
    model
        A `Model`.
    text
        A text as for `Model.surprisal`, or an iterable of texts. For a model of documents each of them is a
        document, and else a running text of its own. The first 20,000 symbols are shown.
    unknown
        How symbols that the model does not know are scored, as in `Model.surprisal`.

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        The model is not a `Model`, or the text is not of its type.
    ValueError
        As in `Model.surprisal`; or jinja2 is not installed.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model={shown(model)} must be a fastrnn.Model")
    return Report.of(model, Excerpt.of(model.vocabulary, text), unknown, Names())
