"""Drawing symbols from a network, one at a time, in few native calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import network as networks
from fastrnn.network import Network
from fastrnn.scoring import Ids, Reading

#: Symbols of a block, at most; and so many are worth that the network's weights are packed for each.
MOST_AT_ONCE, WORTH_PACKING = 1 << 14, 1 << 6


def draw(probabilities: NDArray[np.float64], temperature: float, rng: Any) -> int:
    """One index, drawn with these probabilities at a temperature, from one uniform draw.

    At 0 it is the likeliest. At 1 it is what ``RandomState.choice`` draws.
    """
    uniform = rng.random()
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
    most = min(MOST_AT_ONCE, max(WORTH_PACKING, networks.CALL_OPERATIONS // network.shape.operations))
    is_safe = _stays_finite(network)
    done = 0
    while done < n:
        size = min(block, n - done)
        before = reading if is_safe else reading.copy()
        ids = network.sample(size, reading.before, reading.state, temperature=temperature, rng=rng, last=last)
        if not is_safe:
            _require_finite(before.losses(ids), done)
        reading.before = int(ids[-1])
        ended = reading.before == last
        yield ids[:-1] if ended else ids
        if ended:
            return
        done += size
        block = max(block, min(2 * block, most))


def _stays_finite(network: Network) -> bool:
    """Whether no sum of a step can overflow, whatever the input: states are bounded, and weights small."""
    largest = max(float(network.flat.max()), -float(network.flat.min()))
    terms = network.hidden_size + (network.embedding_size or 1) + 2
    limit = math.sqrt(float(np.finfo(network.dtype).max) / 4 / terms)  # two weights may meet
    return network.activation != "relu" and largest < limit


def _require_finite(losses: NDArray[np.float64], position: int) -> None:
    """Refuse symbols, the first at a position, whose probabilities were not finite."""
    finite = np.isfinite(losses)
    if not finite.all():
        at = int(np.argmin(finite))
        raise ValueError(
            f"the model gives what it drew at position {position + at} of the sample {losses[at]} nats: its "
            "parameters are out of range"
        )
