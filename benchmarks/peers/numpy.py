"""The script that fastrnn grew from, and min-char-rnn, which has the same loop and updates with Adagrad.

Loops, names and shapes are those of the scripts: one row, column vectors (·, 1), a product for each step.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.peers import Build, Run
from benchmarks.workloads import CLIP, INITIAL_ACCUMULATOR, Sampling, Scoring, Training, Weights, Workload


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


class Script:
    """The weights with the names of the scripts, and the functions of the scripts."""

    def __init__(self, weights: Weights) -> None:
        names = "weight_ih_l0", "weight_hh_l0", "head.weight", "bias_l0", "head.bias"
        self.Wxh, self.Whh, self.Why, self.bh, self.by = self.params = [
            weights[name].reshape(len(weights[name]), -1).copy() for name in names
        ]

    def one_hot(self, idx):
        x = np.zeros((self.Wxh.shape[1], 1), self.Wxh.dtype)
        x[idx] = 1
        return x

    def step(self, x, h):
        h = np.tanh(np.dot(self.Wxh, x) + np.dot(self.Whh, h) + self.bh)
        return h, softmax(np.dot(self.Why, h) + self.by)

    def loss_and_grads(self, inputs, targets, h_prev):
        xs, hs, ps = {}, {-1: np.copy(h_prev)}, {}
        loss = 0
        for t in range(len(inputs)):
            xs[t] = self.one_hot(inputs[t])
            hs[t], ps[t] = self.step(xs[t], hs[t - 1])
            loss += -np.log(ps[t][targets[t], 0])
        dWxh, dWhh, dWhy, dbh, dby = grads = [np.zeros_like(param) for param in self.params]
        dh_next = np.zeros_like(hs[0])
        for t in reversed(range(len(inputs))):
            dy = np.copy(ps[t])
            dy[targets[t]] -= 1
            dWhy += np.dot(dy, hs[t].T)
            dby += dy
            dh = np.dot(self.Why.T, dy) + dh_next
            dh_raw = (1 - hs[t] * hs[t]) * dh
            dbh += dh_raw
            dWxh += np.dot(dh_raw, xs[t].T)
            dWhh += np.dot(dh_raw, hs[t - 1].T)
            dh_next = np.dot(self.Whh.T, dh_raw)
        for dparam in grads:
            np.clip(dparam, -CLIP, CLIP, out=dparam)
        return loss, grads, hs[len(inputs) - 1]


def training(job: Training, weights: Weights, threads: int) -> Run:  # noqa: ARG001
    script = Script(weights)
    h = np.zeros_like(script.bh)
    memories = [np.zeros_like(param) for param in script.params]
    windows = [(x[:, 0].tolist(), y[:, 0].tolist()) for x, y in zip(*job.windows_of_ids(), strict=True)]

    def update(param, dparam, mem):
        if job.optimizer == "sgd":
            param -= job.learning_rate * dparam
        else:
            mem += dparam * dparam
            param += -job.learning_rate * dparam / np.sqrt(mem + INITIAL_ACCUMULATOR)

    def run() -> list[float]:
        nonlocal h
        losses = []
        for inputs, targets in windows:
            loss, grads, h = script.loss_and_grads(inputs, targets, h)
            for param, dparam, mem in zip(script.params, grads, memories, strict=True):
                update(param, dparam, mem)
            losses.append(loss)
        return losses

    return run


def sampling(job: Sampling, weights: Weights, threads: int) -> Run:  # noqa: ARG001
    script = Script(weights)
    np.random.seed(42)  # noqa: NPY002  (as the script does)

    def run() -> list[int]:
        x, h = script.one_hot(0), np.zeros_like(script.bh)
        output = []
        for _ in range(job.T):
            h, p = script.step(x, h)
            idx = np.random.choice(range(job.V), p=p.ravel())  # noqa: NPY002
            x = script.one_hot(idx)
            output.append(idx)
        return output

    return run


def scoring(job: Scoring, weights: Weights, threads: int) -> Run:  # noqa: ARG001
    script = Script(weights)
    ids = job.streams()[:, 0].tolist()

    def run() -> list[float]:
        h = np.zeros_like(script.bh)
        bits = []
        for symbol, target in pairwise(ids):
            h, p = script.step(script.one_hot(symbol), h)
            bits.append(-np.log2(p[target, 0]))
        return bits

    return run


def forms(job: Workload) -> dict[str, Build]:
    """The scripts support only one row and one vanilla layer."""
    builds: dict[type, Build] = {Training: training, Sampling: sampling, Scoring: scoring}
    return {"script": builds[type(job)]} if job.B == 1 and job.is_plain else {}
