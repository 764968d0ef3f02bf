"""``fastrnn sample``: print a text that a model generates."""

from __future__ import annotations

import click

import fastrnn
from fastrnn.cli.program import backend_option, seed_option, threads_option, unknown_option, unknown_value
from fastrnn.cli.texts import as_unit, write_sample


@click.command()
@click.argument("model")
@click.option("-n", "--length", type=int, default=200, show_default=True, help="How many symbols.")
@click.option("--prime", help="A text to continue; for tokens, their names, separated by spaces.")
@click.option(
    "--temperature", type=float, default=1.0, show_default=True, help="Divides the logits; 0: no randomness."
)
@unknown_option
@seed_option
@backend_option
@threads_option
def sample(
    *,
    model: str,
    length: int,
    prime: str | None,
    temperature: float,
    unknown: str | None,
    seed: int | None,
    backend: str,
    threads: int | None,
) -> None:
    """Print a text that MODEL generates."""
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    pieces = loaded.sample_pieces(
        length, as_unit(loaded, prime), temperature=temperature, rng=seed, unknown=unknown_value(unknown)
    )
    write_sample(loaded, pieces)
