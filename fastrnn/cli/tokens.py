"""``fastrnn tokens``: what is in a corpus."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fastrnn.cli.output import as_json
from fastrnn.cli.texts import expanded, opened_file, unescaped
from fastrnn.core.terminal import escaped, write

if TYPE_CHECKING:
    from fastrnn.data.statistics import Statistics

#: How many symbols are listed for people, by default.
TOP = 20

#: The values of min_count for which is said what would be unknown.
MIN_COUNTS = (2, 3, 5, 10, 20, 50, 100)

#: Names of control characters, which have none in Unicode's table of names.
CONTROLS = {
    0: "NULL",
    9: "CHARACTER TABULATION",
    10: "LINE FEED",
    11: "LINE TABULATION",
    12: "FORM FEED",
    13: "CARRIAGE RETURN",
    26: "SUBSTITUTE",
    27: "ESCAPE",
    127: "DELETE",
    133: "NEXT LINE",
}

#: Names of the categories whose characters may surprise, by Unicode's abbreviation.
CATEGORIES = {
    "Cc": "other_control_characters",
    "Cf": "format_characters",
    "Co": "private_use_characters",
    "Cn": "unassigned_characters",
    "Zs": "other_spaces",
    "Zl": "line_separators",
    "Zp": "paragraph_separators",
}

#: Characters of these categories that texts usually have.
USUAL = frozenset("\t\n\r ")

#: Characters that are counted on their own: NUL, and the one that stands for bytes that were not decoded.
UNUSUAL = frozenset("\0\ufffd")


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--bytes", "as_bytes", is_flag=True, help="Count bytes instead of characters.")
@click.option("--encoding", default="utf-8", show_default=True, help="The files' encoding, for characters.")
@click.option(
    "--newlines",
    default="universal",
    show_default=True,
    help="universal: leave out a byte order mark, read CR LF and CR as LF; keep: change nothing.",
)
@click.option("--normalization", help="Count normalized characters: as for train.  [default: not at all]")
@click.option("--lines", is_flag=True, help="Each line is a document of its own.")
@click.option("--separator", help="The text between two documents, as for train.")
@click.option("--top", type=click.IntRange(0), help="How many symbols to list; 0: all.  [default: 20]")
@click.option("--json", "to_json", is_flag=True, help="Print JSON, with all symbols by default.")
def tokens(
    *,
    files: tuple[str, ...],
    as_bytes: bool,
    encoding: str,
    newlines: str,
    normalization: str | None,
    lines: bool,
    separator: str | None,
    top: int | None,
    to_json: bool,
) -> None:
    """Tell what is in FILES (- is stdin): their symbols, documents, and what may surprise.

    The symbols are counted as train reads them with the same options. The counts help to choose train's
    --min-count, which counts only the part of the text that is trained on.
    """
    from fastrnn.data.lines import iter_lines, iter_parts
    from fastrnn.data.sources import check_separator
    from fastrnn.data.statistics import Statistics
    from fastrnn.data.text_file import iter_pieces

    unit = "byte" if as_bytes else "character"
    _check(newlines, normalization, unit)
    split = iter_lines if lines else None
    if separator is not None:
        between = unescaped(separator, "--separator", as_bytes=as_bytes)
        check_separator(between, unit, lines=lines)
        split = partial(iter_parts, separator=between)
    statistics = Statistics(unit, newlines, normalization, split)
    for file in expanded(files):
        with opened_file(file) as (source, name):
            statistics.add(iter_pieces(source, name, unit, encoding, "keep"))
    kind = "lines" if split is None or lines else "documents"
    if to_json:
        write(as_json(_description(statistics, kind, top or None)) + "\n")
    else:
        write("\n".join(_report(_description(statistics, kind, TOP if top is None else top or None))) + "\n")


def _check(newlines: str, normalization: str | None, unit: str) -> None:
    """Check the options that say how characters are read."""
    from fastrnn.core import checks
    from fastrnn.data.normalization import NEWLINES, NORMALIZATIONS

    checks.one_of("newlines", newlines, NEWLINES)
    if normalization is not None:
        checks.one_of("normalization", normalization, NORMALIZATIONS)
        if unit != "character":
            raise ValueError(f"normalization={normalization!r} is for characters, and the text is {unit}s")


def _description(statistics: Statistics, kind: str, top: int | None) -> dict[str, Any]:
    """What is in the corpus, as values that JSON has; ``kind`` is ``"lines"`` or ``"documents"``."""
    import numpy as np

    counts, unit = statistics.counts, statistics.unit
    codes = np.flatnonzero(counts)
    codes = codes[np.argsort(-counts[codes], kind="stable")]
    total, found = int(counts.sum()), counts[codes]
    rare = [found[found < least] for least in MIN_COUNTS]
    return {
        "unit": unit,
        "symbols": total,
        kind: statistics.documents,
        **({} if statistics.split is None else {"longest": statistics.longest}),
        "distinct": len(codes),
        "found": _surprises(statistics),
        "rare": [
            {"fewer_than": least, "distinct": len(some), "share": int(some.sum()) / max(1, total)}
            for least, some in zip(MIN_COUNTS, rare, strict=True)
        ],
        "unusual": [_row(statistics, int(code)) for code in codes if _is_unusual(int(code), unit)][:top],
        "top": [_row(statistics, int(code)) for code in codes[:top]],
    }


def _is_unusual(code: int, unit: str) -> bool:
    """Whether a reader may not expect a symbol, because it is invisible or stands for something lost."""
    if unit == "byte":
        return False
    character = chr(code)
    return character in UNUSUAL or (character not in USUAL and unicodedata.category(character) in CATEGORIES)


def _surprises(statistics: Statistics) -> dict[str, Any]:
    """What the text has that a reader may not expect, by name: how often, or whether."""
    if statistics.unit == "byte":
        return {}
    present = {chr(code): int(statistics.counts[code]) for code in statistics.counts.nonzero()[0]}
    categories = dict.fromkeys(CATEGORIES.values(), 0)
    for character, count in present.items():
        name = CATEGORIES.get(unicodedata.category(character))
        if name is not None and character not in USUAL | UNUSUAL:
            categories[name] += count
    return {
        "byte_order_marks": statistics.marks,
        "line_ends_CR_LF": statistics.pairs,
        "line_ends_CR": statistics.returns,
        "NUL_characters": present.get("\0", 0),
        "replacement_characters": present.get("\ufffd", 0),
        **categories,
        "changed_by_NFC": not statistics.is_nfc,
    }


def _row(statistics: Statistics, code: int) -> dict[str, Any]:
    """A symbol, its number, its name, and how often it occurs."""
    count = int(statistics.counts[code])
    return {
        **_named(code, statistics.unit),
        "count": count,
        "share": count / int(statistics.counts.sum()),
    }


def _named(code: int, unit: str) -> dict[str, Any]:
    """A symbol, its number and its name."""
    if unit == "byte":
        return {"symbol": repr(bytes([code]))[1:], "code": f"0x{code:02X}"}
    name = CONTROLS.get(code) or unicodedata.name(chr(code), "")
    category = CATEGORIES.get(unicodedata.category(chr(code)), "").removeprefix("other_").replace("_", " ")
    return {"symbol": chr(code), "code": f"U+{code:04X}", "name": name or category.removesuffix("s")}


def _report(described: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a description for people, escaped."""
    unit, total = described["unit"], described["symbols"]
    yield f"{'symbols':10} {total:,} {unit}s"
    for kind in ("lines", "documents"):
        if kind in described:
            longest = f", the longest with {described['longest']:,} {unit}s" if "longest" in described else ""
            yield f"{kind:10} {described[kind]:,}{longest}"
    yield f"{'distinct':10} {described['distinct']:,} {unit}s"
    for name, value in described["found"].items():
        if value:
            yield f"{'found':10} {name.replace('_', ' ')}" + ("" if value is True else f": {value:,}")
    yield ""
    yield f"{'count':>15} {'share':>9}  {'code':8} symbol"
    yield from _table(described["top"], unit)
    if left := described["distinct"] - len(described["top"]):
        yield f"{'':25}  and {left:,} more"
    if described["unusual"]:
        yield ""
        yield f"{'count':>15} {'share':>9}  {'code':8} unusual symbol"
        yield from _table(described["unusual"], unit)
    if unit == "character":
        yield ""
        for one in described["rare"]:
            what = f"{one['distinct']:,} characters, {100 * one['share']:.4g} % of the text"
            yield f"fewer than {one['fewer_than']:>3} times: {what}"


def _table(rows: list[dict[str, Any]], unit: str) -> Iterator[str]:
    """Yield the lines of a table of symbols."""
    for row in rows:
        symbol = row["symbol"] if unit == "byte" else repr(row["symbol"])
        numbers = f"{row['count']:15,} {100 * row['share']:7.3f} %  {row['code']:8}"
        yield escaped(f"{numbers} {symbol:8} {row.get('name', '')}".rstrip())
