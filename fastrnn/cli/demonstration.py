"""The demonstration: in half a minute, a model of the source code of Python's standard library."""

from __future__ import annotations

import gzip
import lzma
import sysconfig
from pathlib import Path

import click
import numpy as np

import fastrnn
from fastrnn.core.terminal import Sample, shown, tell
from fastrnn.data.sources import read_corpus
from fastrnn.data.vocabulary import Text

#: How many characters of the standard library are read.
ENOUGH = 1_500_000


def standard_library_source() -> str:
    """The modules of Python's standard library in the order of their names, joined and cut to a size."""
    folder = Path(sysconfig.get_path("stdlib"))
    pieces: list[str] = []
    total = 0
    for path in sorted(folder.glob("*.py")):
        try:
            source = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        pieces.append(source)
        total += len(source)
        if total >= ENOUGH:
            break
    if total < 10_000:
        raise FileNotFoundError(f"{folder} holds no source code to train on")
    return "".join(pieces)[:ENOUGH]


def _bits(compressed: bytes, text: Text) -> float:
    return 8 * len(compressed) / len(text)


def compare(model: fastrnn.Model, training: Text, held_out: Text) -> dict[str, float]:
    """Bits per character of the held-out text: by the model and by compressors.

    "xz, after the training text" counts the bytes that the held-out text adds to the compressed one.
    """
    before, alone = str(training).encode(), str(held_out).encode()
    whole = before + alone
    xz_added = len(lzma.compress(whole)) - len(lzma.compress(before))
    return {
        "fastrnn": model.bits_per_symbol(held_out),
        "gzip -9, alone": _bits(gzip.compress(alone, 9), held_out),
        "xz, alone": _bits(lzma.compress(alone), held_out),
        "xz, after the training text": 8 * xz_added / len(held_out),
    }


def run(seconds: float, output: Path, backend: str) -> None:
    """Train, save, sample and compare with gzip and xz; then load the model and score again."""
    text = standard_library_source()
    before, _ = read_corpus(text).split(0.1)
    training, held_out = text[: before.size], text[before.size :]
    tell(f"training for {seconds:.0f} seconds on {len(text):,} characters of Python's standard library")
    model = fastrnn.train(text, backend=backend, time_limit=seconds, validation=0.1, rng=0)
    model.save(output)
    click.echo("\na sample:\n")
    sample = Sample()
    for piece in model.sample_pieces(500, "def ", temperature=0.7, rng=0):
        sample.write(str(piece))
    sample.write("\n", final=True)
    click.echo("\nbits per character of the last tenth, which was held out:\n")
    scores = compare(model, training, held_out)
    for name, bits in scores.items():
        click.echo(f"    {name:28} {bits:.3f}")
    again = fastrnn.load(output, backend=backend)
    scored = again.bits_per_symbol(held_out)
    if not np.isclose(scored, scores["fastrnn"], rtol=1e-12):
        raise RuntimeError(f"the loaded model scores {scored}, and the saved one {scores['fastrnn']}")
    place = shown(str(output))
    click.echo(f"\nthe model was saved as {place} and loaded again: it gives the same {scored:.3f} bits")
    click.echo(f"try: fastrnn sample {place} --prime 'class ' --temperature 0.7")
