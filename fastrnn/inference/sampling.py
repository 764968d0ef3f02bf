"""Drawing symbols from a network, one at a time, in few native calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.inference.scoring import Ids, Reading, Scorer, first_symbol_probabilities
from fastrnn.network import execution
from fastrnn.network.network import Network

#: Symbols of a block, at most.
MOST_AT_ONCE = 1 << 14


def draw(probabilities: NDArray[np.float64], temperature: float, rng: Any) -> int:
    """One index, drawn with these probabilities at a temperature, from one uniform draw.

    At 0 it is the likeliest. At 1 it is what ``RandomState.choice`` draws.
    """
    (uniform,) = checks.uniforms(rng, 1)
    if temperature == 0:
        return int(probabilities.argmax())
    with np.errstate(under="ignore"):
        scaled = (probabilities / probabilities.max()) ** (1 / temperature)
    cumulative = np.cumsum(scaled)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))


def continuation(
    network: Network,
    reading: Reading,
    n: int,
    *,
    temperature: float,
    rng: Any,
    last: int | None = None,
    block: int = 1,
) -> Iterator[Ids]:
    """Draw n ids that continue what was read, of which there is at least one symbol.

    They come in blocks, the first of so many ids and each twice as long as the one before, up to a limit, and
    end early before ``last``. Each id takes one uniform draw, and those of a block are drawn at once.
    """
    most = min(MOST_AT_ONCE, max(1, execution.CALL_OPERATIONS // network.shape.operations))
    prepared, done = network.prepare_steps(), 0
    while done < n:
        size = min(block, n - done)
        ids = network.sample(
            size,
            reading.before,
            reading.state,
            temperature=temperature,
            rng=rng,
            last=last,
            prepared=prepared,
        )
        reading.before = int(ids[-1])
        ended = reading.before == last
        yield ids[:-1] if ended else ids
        if ended:
            return
        done += size
        block = max(block, min(2 * block, most))


def drawn(
    scorer: Scorer, reading: Reading, n: int, *, temperature: float, rng: Any, block: int
) -> Iterator[Ids]:
    """Draw n ids that continue what was read, which may be nothing; they come in blocks, as above."""
    if n > 0 and reading.before < 0:  # a running text that has not begun
        reading.before = draw(first_symbol_probabilities(scorer.counts), temperature, rng)
        yield np.array([reading.before], np.int32)
        n -= 1
    yield from continuation(
        scorer.network,
        reading,
        n,
        temperature=temperature,
        rng=rng,
        last=scorer.vocabulary.boundary_id,
        block=block,
    )
