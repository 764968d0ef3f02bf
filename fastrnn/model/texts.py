"""Reads an argument that holds many texts."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from fastrnn.data.lines import lines_of
from fastrnn.data.sources import require_order, values_of
from fastrnn.data.vocabulary import Text
from fastrnn.inference.scoring import Named


def named_texts(argument: str, texts: Iterable[Text], kind: str) -> tuple[Iterable[Text], Named]:
    """The texts of an iterable or a column, or the lines of an open file, and how errors name each."""
    is_one = isinstance(texts, str | bytes | bytearray | memoryview)
    if is_one or not (hasattr(texts, "__iter__") or hasattr(texts, "__getitem__")):
        found = f"{'one ' * is_one}{type(texts).__name__}"
        raise TypeError(f"{argument} is {found}; it must be an iterable of texts")
    require_order(texts, argument)
    if isinstance(texts, Sized):
        of_all = f" of {len(texts)}" if len(texts) > 1 else ""
        return values_of(texts), f"{kind} {{}}{of_all}: ".format
    if hasattr(texts, "readline"):
        return lines_of(texts), lambda place: f"line {place + 1}: "
    return texts, f"{kind} {{}}: ".format
