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

#: The most symbols of a block.
MAX_AT_ONCE = 1 << 14


def draw(probabilities: NDArray[np.float64], temperature: float, rng: Any) -> int:
    """Draw an index with these probabilities at a temperature; it takes one uniform draw.

    At temperature 0 it is the most probable index. At 1 it is what ``RandomState.choice`` draws.
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
    """Draw n ids that continue a reading, which has at least one symbol.

    They come in blocks. The first one has ``block`` ids, and each next one twice as many, up to a limit. They
    end before the id ``last``. Each id takes one uniform draw; the draws of a block are made at once.
    """
    most = min(MAX_AT_ONCE, max(1, execution.SHORT_CALL_OPERATIONS // network.shape.operations))
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
    """Draw n ids that continue a reading, which may be empty; they come in blocks as in `continuation`."""
    if n > 0 and reading.before < 0:  # the beginning of a running text
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
