"""The jobs of the quality benchmark: a text, a time, a goal, and the settings that were found for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: A job's seconds are those of a machine with so many GFLOP/s of float32 fused multiply-adds on each of two
#: cores. A slower machine gets more of them.
REFERENCE_GFLOPS = 250.0

#: How much worse than the settings found by hand those that `time_limit` chooses may be.
MARGIN = 0.05


@dataclass(frozen=True)
class Job:
    """What is trained, for how long, and what it must reach.

    Attributes
    ----------
    text
        A name in `benchmarks.quality.texts.TEXTS`.
    seconds
        The time limit on the reference machine.
    settings
        Arguments of `fastrnn.train`, beside the time limit.
    nats
        The most nats per symbol of the scored part, if they are stated.
    source
        Whose figure that is.
    by_hand
        Settings found by hand for the same text and time. With them, the goal is to be within `MARGIN` of
        what they reach, and to need fewer bits than xz wherever they do.
    """

    name: str
    text: str
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)
    nats: float | None = None
    source: str = ""
    by_hand: dict[str, Any] | None = None
    #: The most nats with counts: fixed ones, and ones that go on learning as they read.
    fixed: float | None = None
    adapted: float | None = None


#: The scored part continues the plays at the end of the training part, which must be trained on too.
ALL = {"validation": 0.0}

STATED = (
    Job("shakespeare-5s", "tinyshakespeare", 5, ALL, 1.88, "nanoGPT on a CPU in 3 minutes"),
    Job("shakespeare-1m", "tinyshakespeare", 60, ALL, 1.55, "minGRU, minLSTM, a Transformer"),
    Job("shakespeare-4m", "tinyshakespeare", 240, ALL, 1.4697, "nanoGPT on a GPU"),
    Job("shakespeare-12m", "tinyshakespeare", 720, ALL, 1.44),
    Job("war-and-peace-rnn-30s", "war-and-peace", 30, {"cell": "rnn"}, 1.6236, "an RNN of 128 in PyTorch"),
    Job("war-and-peace-rnn-20m", "war-and-peace", 1200, {"cell": "rnn"}, 1.268, "an LSTM of 512"),
    Job("war-and-peace-40m", "war-and-peace", 2400, {}, 1.22),
    Job("names-1m", "names", 60, {}, 1.993, "a WaveNet"),
)

#: Settings found by hand for a minute, by text.
BY_HAND: dict[str, dict[str, Any]] = {}

#: ``train(text, time_limit=60)``, no other setting, beside settings found by hand.
CHOSEN = tuple(
    Job(f"{text}-chosen", text, 60, by_hand=BY_HAND.get(text))
    for text in (
        *("tinyshakespeare", "war-and-peace", "names", "hdfs", "apache", "alice29", "lcet10"),
        "standard-library",
    )
)

#: Networks that are mixed with counts.
COUNTED = (
    Job("shakespeare-5s-counts", "tinyshakespeare", 5, {**ALL, "count_order": 8}, fixed=1.49, adapted=1.40),
    Job("shakespeare-4m-counts", "tinyshakespeare", 240, {**ALL, "count_order": 8}, adapted=1.32),
    Job("war-and-peace-40m-counts", "war-and-peace", 2400, {"count_order": 8}, adapted=1.12),
    Job("names-1m-counts", "names", 60, {"count_order": 6}, fixed=1.97),
    *(
        Job(f"{text}-counts", text, 60, {"count_order": 8})
        for text in ("hdfs", "apache", "alice29", "lcet10", "standard-library")
    ),
)

JOBS = {job.name: job for job in (*STATED, *CHOSEN, *COUNTED)}
