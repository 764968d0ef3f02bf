"""Numba and C give the same bytes, at any instruction set: after a thousand updates on a real text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import require_backend, require_isa

PROGRAM = """
import hashlib, json, sys
import fastrnn
import numpy as np
from fastrnn import network
network.LEAST_WORK = network.LEAST_ROWS = 1  # so that small windows are worth three threads
text = open(sys.argv[1], encoding="utf-8").read()[:60_000]
found = {}
for dtype in ("float32", "float64"):
    for name, settings in {
        "plain": dict(hidden_size=37, seq_length=21, batch_size=7),
        "one row": dict(hidden_size=40, seq_length=9, batch_size=1, optimizer="adagrad", clip_value=1.0),
        "a step": dict(hidden_size=5, seq_length=1, batch_size=13, optimizer="sgd", learning_rate=0.1),
        "wide": dict(hidden_size=72, seq_length=20, batch_size=25),
        "char-rnn": dict(
            cell="lstm", num_layers=2,
            hidden_size=33, seq_length=5, batch_size=6, optimizer="rmsprop", reduction="batchmean",
            learning_rate=2e-3, schedule=fastrnn.schedules.Exponential(after=3),
        ),
        "momentum": dict(
            hidden_size=9, seq_length=4, batch_size=5, learning_rate=0.05, schedule="cosine",
            optimizer=fastrnn.optimizers.SGD(momentum=0.9, nesterov=True),
        ),
        "decay": dict(
            hidden_size=11, seq_length=4, batch_size=3, optimizer="adamw",
            schedule=fastrnn.schedules.Plateau(patience=1, factor=0.5),
        ),
    }.items():
        model = fastrnn.train(
            text, backend=sys.argv[2], threads=int(sys.argv[3]), dtype=dtype, rng=0, steps=int(sys.argv[4]),
            log_every=50, **settings
        )
        wanted = min(int(sys.argv[3]), settings["batch_size"])
        assert model.network.parts(settings["seq_length"], settings["batch_size"]) == wanted
        parts = [model.network.flat.tobytes(), repr(model.history), model.sample(300, rng=1)]
        found[f"{name} {dtype}"] = [hashlib.sha256(str(part).encode()).hexdigest() for part in parts]
    ids = np.frombuffer(text[:4001].encode("latin1"), np.uint8).reshape(-1, 1) % 50
    streams = np.ascontiguousarray(ids[:4000].reshape(8, 500).T)
    for name, settings in {
        "relu": dict(activation="relu", num_layers=2),
        "gru": dict(cell="gru", num_layers=2, embedding_size=19, dropout=0.2),
        "lstm": dict(cell="lstm", num_layers=3, embedding_size=37, tied=True, dropout=0.2),
    }.items():
        net = fastrnn.Network(
            50, 37, dtype=dtype, backend=sys.argv[2], threads=int(sys.argv[3]), rng=0, **settings
        )
        trainer = fastrnn.Trainer(net, averaging=0.99, clip_norm=1.0, reduction="mean", dropout_key=2**40 + 1)
        assert net.parts(13, 8) == int(sys.argv[3])
        losses = trainer.steps(streams[: int(sys.argv[4]) // 2], 13, passes=26)
        state = np.asarray(trainer.state)
        drawn = net.sample(
            50, 1, np.zeros((net.shape.Z, net.num_layers, 1, 37), dtype), temperature=0.9,
            rng=np.random.default_rng(1),
        )
        parts = [losses, net.flat, trainer.averaged_network.flat, state, net.forward(streams)[0], drawn]
        found[f"{name} {dtype}"] = [hashlib.sha256(part.tobytes()).hexdigest() for part in parts]
print(json.dumps(found))
"""


#: Updates of each training: few, which suffice where fused multiply-adds are software, and many.
FEW, MANY = 100, 1000


def digests(backend: str, updates: int, threads: int = 1, **environment: str) -> dict[str, list[str]]:
    """Of the parameters, the history and a sample of several trainings, in a process of its own."""
    text = Path(sysconfig.get_path("stdlib")) / "argparse.py"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(text), backend, str(threads), str(updates)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def updates(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def expected(updates: int) -> dict[str, list[str]]:
    require_backend("c")
    return digests("c", updates)


def test_numba_gives_the_bits_of_c(updates: int, expected: dict[str, list[str]]):
    require_backend("numba")
    assert digests("numba", updates) == expected


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(compiled: str, threads: int, updates: int, expected: dict[str, list[str]]):
    assert digests(compiled, updates, threads) == expected


@pytest.mark.parametrize("isa", ["v4", "v3", pytest.param("baseline", marks=pytest.mark.slow)])
def test_every_build_of_c_gives_the_same_bits(isa: str, updates: int, expected: dict[str, list[str]]):
    require_isa("c", isa)
    if isa == "baseline" and updates > FEW:
        pytest.skip("fused multiply-adds in software take long")
    assert digests("c", updates, FASTRNN_ISA=isa) == expected


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["v4", "v3", "baseline"])
def test_every_target_of_numba_gives_the_same_bits(isa: str, updates: int, expected: dict[str, list[str]]):
    require_isa("numba", isa)
    if isa == "baseline" and updates > FEW:
        pytest.skip("fused multiply-adds in software take long")
    assert digests("numba", updates, FASTRNN_ISA=isa) == expected


def test_blas_changes_nothing(updates: int, expected: dict[str, list[str]]):
    assert digests("c", updates, OPENBLAS_CORETYPE="Nehalem", OPENBLAS_NUM_THREADS="1") == expected
