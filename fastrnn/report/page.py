"""The page of a report: what was measured, put into words and into the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.core.version import VERSION
from fastrnn.inference.sums import perplexity
from fastrnn.model.model import Model
from fastrnn.report import charts
from fastrnn.report.calibration import Calibration
from fastrnn.report.excerpt import MAX_SYMBOLS, Excerpt
from fastrnn.report.features import features
from fastrnn.report.passages import Passage, strangest
from fastrnn.report.symbols import Sign, Signs
from fastrnn.report.trace import Trace
from fastrnn.report.units import LEVELS, Unit, explained_units

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"

#: The bits from which on a symbol has the next level of colour.
LEVEL_BITS = (1, 2, 3, 4, 6, 8, 12)

#: The level of a symbol that is not scored.
NOT_SCORED = "x"

#: The letters of the levels of an activation, from the lowest to the highest.
ACTIVATION_LETTERS = "abcdefghi"


@dataclass(frozen=True)
class Cell:
    """A symbol on the page: its classes, its sign, whether it ends a line, and its anchor if it has one."""

    classes: str
    text: str
    ends_line: bool
    anchor: str | None


@dataclass(frozen=True)
class Seen:
    """All that a report says of a model and a text."""

    model: Model
    excerpt: Excerpt
    trace: Trace
    signs: list[Sign]
    unknown: str | float | None

    @classmethod
    def of(cls, model: Model, excerpt: Excerpt, unknown: str | float | None) -> Seen:
        """Measure what a model sees in an excerpt; ``unknown`` and the errors are those of `surprisal`."""
        trace, made = Trace.of(model, excerpt, unknown), Signs(model.vocabulary)
        signs: list[Sign] = []
        for text in excerpt.texts:
            signs += made.of_text(text)
            if model.vocabulary.boundary:
                signs.append(made.of_id(model.vocabulary.size - 1))
        return cls(model, excerpt, trace, signs[: len(trace.ids)], unknown)

    @property
    def levels(self) -> list[str]:
        """The level of the colour of each symbol."""
        levels = np.searchsorted(LEVEL_BITS, self.trace.bits, side="right")
        return [
            NOT_SCORED if not_scored else str(level)
            for level, not_scored in zip(levels.tolist(), np.isnan(self.trace.bits).tolist(), strict=True)
        ]

    def cells(self, levels: list[str], some: slice, anchors: dict[int, str] | None = None) -> list[Cell]:
        """Some symbols for the page; the classes of their colours are given for all symbols."""
        places, anchors = range(some.start, some.stop), anchors or {}
        return [
            Cell(level if sign.is_itself else f"{level} e", sign.text, sign.ends_line, anchors.get(place))
            for place, level, sign in zip(places, levels[some], self.signs[some], strict=True)
        ]

    def lines(self, cells: list[Cell]) -> Iterator[list[Cell]]:
        """The symbols of each line, for all symbols of the page."""
        begins, start = set(self.trace.begins.tolist()), 0
        for place, sign in enumerate(self.signs, 1):
            if sign.ends_line or place in begins or place == len(self.signs):
                yield cells[start:place]
                start = place

    def summary(self) -> list[tuple[str, str]]:
        """The main numbers, with their names."""
        bits = self.trace.bits[~np.isnan(self.trace.bits)]
        if not bits.size:
            return [("symbols", f"{len(self.signs):,}")]
        total, unit = float(bits.cumsum()[-1]), self.model.vocabulary.unit
        found = [(f"bits per {unit}", f"{total / len(bits):.3f}")]
        if unit == "character":
            ends = int((self.trace.ids == self.model.vocabulary.boundary_id).sum())
            n_bytes = ends + sum(
                self.model.vocabulary.count_bytes(text, unknown=self.unknown) for text in self.excerpt.texts
            )
            found.append(("bits per byte", f"{total / n_bytes:.3f}"))
        calibration = Calibration.of(self.trace)
        return [
            *found,
            ("perplexity", f"{perplexity(total / len(bits)):.4g}"),
            ("top prediction came", f"{100 * calibration.came:.1f} %"),
            (f"{unit}s", f"{len(self.signs):,}"),
        ]

    def data(self, levels: list[str], units: list[Unit]) -> dict[str, Any]:
        """What the script of the page needs."""
        forecast, bits = self.trace.forecast, self.trace.bits
        table: dict[tuple[str, str], int] = {}
        made = Signs(self.model.vocabulary)
        place_of = {
            symbol: _place(table, made.of_id(symbol)) for symbol in np.unique(forecast.symbols).tolist()
        }
        return {
            "unit": self.model.vocabulary.unit,
            "shown": [_place(table, sign) for sign in self.signs],
            "bits": np.where(np.isnan(bits), -1, np.rint(1000 * bits.clip(0, 1e6))).astype(int).tolist(),
            "rank": forecast.rank.tolist(),
            "top": [place_of[symbol] for symbol in forecast.symbols.ravel().tolist()],
            "shares": np.rint(10_000 * forecast.probabilities).astype(int).ravel().tolist(),
            "signs": list(table),
            "levels": "".join(levels),
            "vocabulary": self.model.network.vocab_size,
            "units": [
                {
                    "name": unit.name,
                    "largest": max(abs(unit.lowest), abs(unit.highest)),
                    "levels": "".join(activation_letters(unit)),
                }
                for unit in units
            ],
        }


def _place(table: dict[tuple[str, str], int], sign: Sign) -> int:
    """The place of a sign in a table, to which it is added if it is not there."""
    return table.setdefault((sign.label, sign.name), len(table))


def activation_letters(unit: Unit) -> list[str]:
    """The letter of the level of a unit's activation after each symbol."""
    return [ACTIVATION_LETTERS[level + LEVELS] for level in unit.levels.tolist()]


@dataclass(frozen=True)
class Names:
    """What the page calls the model and the text."""

    model: str = "the model"
    text: str = "the text"


def template() -> jinja2.Template:
    """The template of the page.

    Raises
    ------
    ValueError
        The package jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ValueError("a report needs the package jinja2: pip install 'fastrnn[report]'") from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.jinja")


def render(page: jinja2.Template, seen: Seen, names: Names) -> str:
    """The page of a report, as HTML."""
    from markupsafe import Markup

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return page.render(
        **_content(seen, names),
        style=Markup(style),  # noqa: S704  (a file of this package)
        style_hash=_hash(style),
        script=Markup(script),  # noqa: S704  (a file of this package)
        script_hash=_hash(script),
    )


def _content(seen: Seen, names: Names) -> dict[str, Any]:
    """The variables of the template."""
    trace, network, vocabulary = seen.trace, seen.model.network, seen.model.vocabulary
    properties = features(trace, seen.signs, vocabulary.unit)
    units = explained_units(trace.hidden, properties, network.hidden_size)
    levels, passages = seen.levels, strangest(trace)
    classes = [f"s{level}" for level in levels]
    anchors = {passage.start: f"passage-{place}" for place, passage in enumerate(passages, 1)}
    cells = seen.cells(classes, slice(0, len(classes)), anchors)
    lines = list(seen.lines(cells))
    line_of = np.repeat(np.arange(1, len(lines) + 1), [len(line) for line in lines])
    return {
        "names": names,
        "version": VERSION,
        "config": network.config,
        "vocabulary": vocabulary,
        "summary": seen.summary(),
        "is_whole": seen.excerpt.is_whole,
        "most": MAX_SYMBOLS,
        "lines": lines,
        "legend": _legend(),
        "activation_letters": ACTIVATION_LETTERS,
        "has_unscored": "x" in levels,
        "passages": [
            (passage, int(line_of[passage.start]), *_parts(seen, classes, passage)) for passage in passages
        ],
        "properties": list(properties),
        "units": [
            (unit, seen.cells([f"u{letter}" for letter in activation_letters(unit)], unit.picture))
            for unit in units
        ],
        "n_units": network.num_layers * network.hidden_size,
        "calibration": Calibration.of(trace),
        "share": (charts.horizontal(0.0, 1.0), charts.vertical(0.0, 1.0)),
        "chart": charts,
        "loss": charts.LossChart.of(seen.model),
        "evaluation": seen.model.evaluation,
        "data": seen.data(levels, units),
    }


def _parts(seen: Seen, classes: list[str], passage: Passage) -> tuple[list[Cell], list[Cell], list[Cell]]:
    """The symbols before a passage, in it, and after it."""
    before, within, after = (
        seen.cells(classes, slice(start, stop))
        for start, stop in (
            (passage.context_start, passage.start),
            (passage.start, passage.stop),
            (passage.stop, passage.context_stop),
        )
    )
    return before, within, after


def _legend() -> list[tuple[str, str]]:
    """The range of bits of each level, and the probability at which it begins."""
    lows = (0, *LEVEL_BITS)
    ranges = [f"{low}\N{EN DASH}{high}" for low, high in zip(lows, LEVEL_BITS, strict=False)] + [
        f"{lows[-1]}+"
    ]
    return list(zip(ranges, [f"1/{2**low}" if low else "1" for low in lows], strict=True))


def _hash(text: str) -> str:
    """The source of Content-Security-Policy that allows a text within the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
