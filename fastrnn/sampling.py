"""Drawing symbols from a network, one at a time, in few native calls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import checks
from fastrnn.network import Network, State
from fastrnn.scoring import steps_at_once

Ids = NDArray[np.int32]


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
    network: Network, prime: Ids, n: int, *, temperature: float, rng: Any, last: int | None = None
) -> Ids:
    """Draw n ids after the ids of ``prime`` (at least one), from a state of zeros.

    They end early after ``last``. Each takes one uniform draw, and all n are drawn at once. Parameters whose
    state or logits overflow are a ``ValueError``.
    """
    state: State | None = None
    at_once = min(1024, steps_at_once(network, 1))  # it makes logits that nobody asked for
    for start in range(0, len(prime) - 1, at_once):
        window = prime[start : min(start + at_once, len(prime) - 1), np.newaxis]
        _, state = network.forward(window, state)
        if not np.isfinite(state).all():
            raise network.out_of_range()
    carried = network.checked_state(state, 1)
    return network.sample(n, int(prime[-1]), carried, temperature=temperature, rng=rng, last=last)
