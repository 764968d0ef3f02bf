"""The claims of the README that a command checks: a table of the claims, and a module for each check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A claim, and what its check needs. The module of the same name, with underscores, checks it."""

    name: str
    states: str
    minutes: str
    needs_texts: bool = False

    @property
    def module(self) -> str:
        """The module whose ``main`` checks the claim."""
        return f"benchmarks.claims.{self.name.replace('-', '_')}"

    @property
    def command(self) -> str:
        """The command that checks the claim."""
        return f"make claim-{self.name}"


#: Every claim, in the order in which `make claims` checks them.
CLAIMS = (
    Claim(
        "quality",
        "fastrnn train with its defaults reaches 1.6 nats per character on tinyshakespeare in 120 seconds",
        "1 to 2",
        needs_texts=True,
    ),
    Claim(
        "char-rnn",
        "the preset char-rnn has the validation losses of the program that it reproduces: 1.77 to 1.79 nats "
        "after 1,000 updates, at most 1.40 within 14,000",
        "2 to 5",
        needs_texts=True,
    ),
    Claim(
        "long-memory",
        "GRU and LSTM remember ten symbols over a hundred steps: less than a tenth of the loss of guessing",
        "1 to 2",
    ),
    Claim(
        "scale",
        "a character of a file of 100 MB takes as long as one of a text of 100 kB, within a tenth, and no "
        "more memory",
        "2",
        needs_texts=True,
    ),
    Claim(
        "fine-tuning",
        "a model of War and Peace that is continued on alice29 for 20 seconds needs fewer bits on its last "
        "tenth than one trained on alice29 alone, also if the vocabulary grows",
        "3 to 5",
        needs_texts=True,
    ),
    Claim(
        "large-files",
        "a file of 1 GB trains in 400 MB of memory, its first update within 10 seconds for bytes and 60 for "
        "characters; ten million lines train in 1 GB",
        "3",
        needs_texts=True,
    ),
    Claim(
        "saving",
        "a checkpoint every 200 updates costs a training less than 2 % of its time",
        "5 to 10",
        needs_texts=True,
    ),
    Claim(
        "denormals",
        "saturated, dead and fading networks train as fast as a healthy one, within a fifth",
        "2 to 3",
    ),
)
