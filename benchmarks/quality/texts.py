"""The texts of the quality benchmark, their published splits, and what xz needs for them."""

from __future__ import annotations

import lzma
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fastrnn
from fastrnn.cli.demonstration import standard_library_source

#: xz -9e.
PRESET = 9 | lzma.PRESET_EXTREME

#: The probability of a scored character that the training part does not have.
UNKNOWN = 1e-6


@dataclass(frozen=True)
class Split:
    """A text in two parts. Nothing is chosen by the second one.

    Attributes
    ----------
    training
        What `fastrnn.train` gets; it may hold out a part of it by itself.
    scored
        What the trained model is scored on.
    held_out
        The fraction of ``training`` that the published split keeps for validation; ``None`` leaves it to
        `fastrnn.train`.
    """

    training: Any
    scored: Any
    held_out: float | None = None

    def nats(self, model: fastrnn.Model, adapt: str | None = None) -> float:
        """Nats per symbol of the scored part. The end of a document is a symbol."""
        options = {"unknown": UNKNOWN, "adapt": adapt}
        if isinstance(self.scored, str | bytes):
            return model.bits_per_symbol(self.scored, **options) * math.log(2)
        scores = model.score_many(self.scored, end=True, carry=adapt is not None, **options)
        total = float(sum(bits.sum() for bits in scores))
        return total * math.log(2) / sum(len(text) + 1 for text in self.scored)

    @cached_property
    def xz_bits(self) -> float:
        """The bits per symbol by which the scored part lengthens what xz -9e makes of the training part."""
        before, rest = _as_bytes(self.training), _as_bytes(self.scored)
        added = len(lzma.compress(before + rest, preset=PRESET)) - len(lzma.compress(before, preset=PRESET))
        symbols = len(rest) if isinstance(self.scored, bytes | list) else len(self.scored)
        return 8 * added / symbols


def _as_bytes(text: str | bytes | Sequence[str]) -> bytes:
    if isinstance(text, bytes):
        return text
    return text.encode() if isinstance(text, str) else "".join(f"{line}\n" for line in text).encode()


def folder() -> Path:
    """The folder of texts."""
    return Path(os.environ["FASTRNN_DATA"])


def tinyshakespeare() -> Split:
    """The split of nanoGPT: the last 111,540 characters are scored."""
    return _cut((folder() / "tinyshakespeare.txt").read_text(encoding="utf-8"), 1_003_854)


def war_and_peace() -> Split:
    """Bytes, 80/10/10: the second part is held out while training, the third one is scored."""
    text = (folder() / "warpeace_input.txt").read_bytes()
    return Split(text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :], held_out=1 / 9)


def names() -> Split:
    """The split of makemore: 80/10/10 in the order of ``random.Random(42)``; the second part is scored."""
    lines = (folder() / "names.txt").read_text(encoding="utf-8").split()
    random.Random(42).shuffle(lines)  # noqa: S311
    first, second = int(0.8 * len(lines)), int(0.9 * len(lines))
    return Split(lines[:first], lines[first:second])


def standard_library() -> Split:
    """The source of Python's standard library, as `fastrnn demo` reads it: the last tenth is scored."""
    return _last_tenth(standard_library_source())


def of_file(name: str) -> Split:
    """A file of characters, the last tenth of which is scored."""
    return _last_tenth((folder() / name).read_text(encoding="utf-8"))


def _last_tenth(text: str) -> Split:
    return _cut(text, len(text) * 9 // 10)


def _cut(text: str, place: int) -> Split:
    return Split(text[:place], text[place:])


#: The texts by name.
TEXTS = {
    "tinyshakespeare": tinyshakespeare,
    "war-and-peace": war_and_peace,
    "names": names,
    "hdfs": lambda: of_file("HDFS_2k.log"),
    "apache": lambda: of_file("Apache_2k.log"),
    "alice29": lambda: of_file("alice29.txt"),
    "lcet10": lambda: of_file("lcet10.txt"),
    "standard-library": standard_library,
}
