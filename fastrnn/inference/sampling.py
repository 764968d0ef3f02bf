"""Drawing symbols from a network, one at a time, in few native calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.inference.scoring import Ids, Reading, Scorer, first_symbol_probabilities
from fastrnn.network import execution
from fastrnn.network.network import Network

#: The logit of a symbol that is never drawn, about; at any temperature its probability is zero.
NEVER = -1e30

#: The most symbols that one native call draws.
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
    stop_symbol: int | None = None,
    at_once: int = 1,
) -> Iterator[Ids]:
    """Draw n ids that continue a reading, which has at least one symbol.

    They come in pieces. The first one has ``at_once`` ids, and each next one twice as many, up to a limit.
    They end before ``stop_symbol``. Each id takes one uniform draw; the draws of a piece are made at once.
    """
    highest = min(MAX_AT_ONCE, max(1, execution.SHORT_CALL_OPERATIONS // network.shape.operations))
    done = 0
    while done < n:
        size = min(at_once, n - done)
        ids = network.sample(
            size,
            reading.before,
            reading.state,
            temperature=temperature,
            rng=rng,
            stop_symbol=stop_symbol,
        )
        reading.before = int(ids[-1])
        ended = reading.before == stop_symbol
        yield ids[:-1] if ended else ids
        if ended:
            return
        done += size
        at_once = max(at_once, min(2 * at_once, highest))


def _never_drawing(network: Network, symbol: int) -> Network:
    """A copy of a network that gives a symbol no probability."""
    flat = memory.lasting(network.flat.size, network.dtype)
    flat[...] = network.flat
    copied = network.with_parameters(flat)
    copied.parameters["head.bias"][symbol] = NEVER
    return copied


def drawn(
    scorer: Scorer, reading: Reading, n: int, *, temperature: float, rng: Any, at_once: int
) -> Iterator[Ids]:
    """Draw n ids that continue a reading, which may be empty; they come in pieces as in `continuation`."""
    unknown = scorer.vocabulary.unknown_id
    if n > 0 and reading.before < 0:  # the beginning of a running text
        first = first_symbol_probabilities(scorer.counts)
        if unknown is not None:
            first[unknown] = 0
        reading.before = draw(first, temperature, rng)
        yield np.array([reading.before], np.int32)
        n -= 1
    yield from continuation(
        scorer.network if unknown is None else _never_drawing(scorer.network, unknown),
        reading,
        n,
        temperature=temperature,
        rng=rng,
        stop_symbol=scorer.vocabulary.boundary_id,
        at_once=at_once,
    )
