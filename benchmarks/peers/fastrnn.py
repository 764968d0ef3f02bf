"""fastrnn's backends, through the public interface."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastrnn
from benchmarks.peers import Build, Run
from benchmarks.workloads import (
    CLIP,
    INITIAL_ACCUMULATOR,
    Lines,
    Sampling,
    Scoring,
    Training,
    Weights,
    Workload,
)
from fastrnn.data.vocabulary import Vocabulary

FIRST_SYMBOL = 33
OPTIMIZERS = {
    "sgd": fastrnn.optimizers.SGD(),
    "adagrad": fastrnn.optimizers.Adagrad(initial_accumulator_value=INITIAL_ACCUMULATOR, eps=0.0),
}


def network(job: Workload, weights: Weights, threads: int, backend: str) -> fastrnn.Network:
    """A network with these weights."""
    made = fastrnn.Network(
        job.V, job.H, cell=job.cell, num_layers=job.num_layers,
        dtype=job.dtype, backend=backend, initialization="zeros", threads=threads,
    )  # fmt: skip
    for name, view in made.parameters.items():
        view[...] = weights[name]
    return made


def trainer(job: Training, weights: Weights, threads: int, backend: str) -> fastrnn.Trainer:
    """A trainer of a network with these weights."""
    return fastrnn.Trainer(
        network(job, weights, threads, backend),
        optimizer=OPTIMIZERS[job.optimizer], learning_rate=job.learning_rate, clip_value=CLIP,
    )  # fmt: skip


def training(job: Training, weights: Weights, threads: int, backend: str) -> Run:
    trained = trainer(job, weights, threads, backend)
    streams = job.streams()
    return lambda: trained.steps(streams, job.T)


def model(job: Workload, weights: Weights, threads: int, backend: str) -> fastrnn.Model:
    """A model of one running text."""
    symbols = np.arange(FIRST_SYMBOL, FIRST_SYMBOL + job.V, dtype=np.uint32)
    counts = np.ones(job.V, np.int64)
    return fastrnn.Model(network(job, weights, threads, backend), Vocabulary("character", symbols), counts)


def sampling(job: Sampling, weights: Weights, threads: int, backend: str) -> Run:
    sampled = model(job, weights, threads, backend)

    def run() -> list[int]:
        text = sampled.sample(job.T, prime=chr(FIRST_SYMBOL), rng=0)
        return [ord(symbol) - FIRST_SYMBOL for symbol in text[: job.checked]]

    return run


def scoring(job: Scoring, weights: Weights, threads: int, backend: str) -> Run:
    scored = model(job, weights, threads, backend)
    texts = [scored.vocabulary.decode(ids) for ids in job.streams().T]
    if job.B == 1:
        return lambda: scored.surprisal(texts[0])[1:]
    return lambda: scored.score_many(texts)[0][1:]


def lines(job: Lines, weights: Weights, threads: int, backend: str) -> Run:
    scored = model(job, weights, threads, backend)
    texts = [scored.vocabulary.decode(ids) for ids in job.lines()]
    return lambda: scored.score_many(texts)[0][1:]


def forms(backend: str, job: Workload) -> dict[str, Build]:
    try:
        fastrnn.get_backend(backend)
    except fastrnn.BackendUnavailableError as error:
        raise ImportError(error) from error
    builds = {Training: training, Sampling: sampling, Scoring: scoring, Lines: lines}
    return {"public interface": partial(builds[type(job)], backend=backend)}


numba_forms, c_forms, reference_forms = (partial(forms, backend) for backend in ("numba", "c", "numpy"))
