"""PyTorch: autograd, its own clip and optimizers; inference without autograd.

The recurrence is `torch.nn.RNN` on one-hot inputs, or a loop over gathered rows of the input weights;
each is tried with the optimizers' three implementations. The RNN's second bias stays zero.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers import Build, Run
from benchmarks.workloads import CLIP, INITIAL_ACCUMULATOR, Sampling, Scoring, Training, Weights, Workload

IMPLEMENTATIONS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


class Network(torch.nn.Module):
    """One-hot input, RNN, linear head."""

    def __init__(self, job: Workload, weights: Weights, threads: int) -> None:
        super().__init__()
        torch.set_num_threads(threads)
        self.rnn = torch.nn.RNN(job.V, job.H)
        self.head = torch.nn.Linear(job.H, job.V)
        self.to(getattr(torch, job.dtype))
        tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
        self.head.weight.data, self.head.bias.data = tensors["head.weight"], tensors["head.bias"]
        self.rnn.weight_ih_l0.data, self.rnn.weight_hh_l0.data = (
            tensors["weight_ih_l0"], tensors["weight_hh_l0"],
        )  # fmt: skip
        self.rnn.bias_ih_l0.data = tensors["bias_l0"]
        self.rnn.bias_hh_l0.requires_grad_(False).zero_()
        self.identity = torch.eye(job.V, dtype=self.head.weight.dtype)

    def one_hot(self, ids: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (T, B, H) of ids (T, B), and the last one (1, B, H)."""
        return self.rnn(self.identity[ids], h)

    def gathered(self, ids: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, by rows of the input weights and a loop over time."""
        steps = functional.embedding(ids, self.rnn.weight_ih_l0.t()) + self.rnn.bias_ih_l0
        W_hh, h, hs = self.rnn.weight_hh_l0.t(), h[0], []
        for step in steps.unbind():
            h = torch.addmm(step, h, W_hh).tanh()
            hs.append(h)
        return torch.stack(hs), h.unsqueeze(0)

    def cross_entropy(self, hs: torch.Tensor, targets: torch.Tensor, reduction: str) -> torch.Tensor:
        return functional.cross_entropy(self.head(hs.flatten(0, 1)), targets.flatten(), reduction=reduction)


def training(job: Training, weights: Weights, threads: int, *, recurrence: str, implementation: str) -> Run:
    network = Network(job, weights, threads)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    how = IMPLEMENTATIONS[implementation]
    if job.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=job.learning_rate, **how)
    else:
        optimizer = torch.optim.Adagrad(
            parameters, lr=job.learning_rate, initial_accumulator_value=INITIAL_ACCUMULATOR, eps=0.0, **how
        )
    hidden_states = getattr(network, recurrence)
    windows = list(zip(*(torch.from_numpy(ids).long() for ids in job.windows_of_ids()), strict=True))
    h = torch.zeros(1, job.B, job.H, dtype=network.head.weight.dtype)

    def run() -> list[float]:
        nonlocal h
        losses = []
        for inputs, targets in windows:
            hs, last = hidden_states(inputs, h)
            loss = network.cross_entropy(hs, targets, "sum")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(parameters, CLIP, foreach=how.get("foreach", False))
            optimizer.step()
            h = last.detach()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    return run


@torch.inference_mode()
def sampling(job: Sampling, weights: Weights, threads: int, *, form: str) -> Run:
    network = Network(job, weights, threads)
    W_hh, W_head, b = network.rnn.weight_hh_l0, network.head.weight, network.head.bias
    rows = (network.rnn.weight_ih_l0.t() + network.rnn.bias_ih_l0).contiguous().unbind()

    @torch.inference_mode()
    def by_modules() -> list[int]:
        h, symbol, output = torch.zeros(1, 1, job.H), 0, []
        for _ in range(job.T):
            hs, h = network.rnn(network.identity[symbol].view(1, 1, -1), h)
            symbol = torch.multinomial(network.head(hs[0, 0]).softmax(0), 1).item()
            output.append(symbol)
        return output

    @torch.inference_mode()
    def by_multinomial() -> list[int]:
        h, symbol, output = torch.zeros(job.H), 0, []
        for _ in range(job.T):
            h = torch.addmv(rows[symbol], W_hh, h).tanh_()
            symbol = torch.multinomial(torch.addmv(b, W_head, h).softmax(0), 1).item()
            output.append(symbol)
        return output

    @torch.inference_mode()
    def by_gumbel_noise() -> list[int]:
        """The largest of logits with Gumbel noise is a draw; all the noise is drawn at once."""
        h, symbol, output = torch.zeros(job.H), 0, []
        noise = b - torch.empty(job.T, job.V).exponential_().log_()
        for noisy in noise.unbind():
            h = torch.addmv(rows[symbol], W_hh, h).tanh_()
            symbol = torch.addmv(noisy, W_head, h).argmax().item()
            output.append(symbol)
        return output

    return {"modules": by_modules, "multinomial": by_multinomial, "Gumbel noise": by_gumbel_noise}[form]


def scoring(job: Scoring, weights: Weights, threads: int, *, recurrence: str) -> Run:
    network = Network(job, weights, threads)
    hidden_states = getattr(network, recurrence)
    ids = torch.from_numpy(job.streams()).long()

    @torch.inference_mode()
    def run() -> np.ndarray:
        hs, _ = hidden_states(ids[:-1], torch.zeros(1, job.B, job.H))
        nats = network.cross_entropy(hs, ids[1:], "none").view(job.T, job.B)
        return nats[:, 0].numpy() / math.log(2)

    return run


def forms(job: Workload) -> dict[str, Build]:
    if isinstance(job, Sampling):
        return {form: partial(sampling, form=form) for form in ("Gumbel noise", "multinomial", "modules")}
    recurrences = {"gathered": "gathered", "one-hot": "one_hot"}
    if isinstance(job, Scoring):
        return {name: partial(scoring, recurrence=value) for name, value in recurrences.items()}
    return {
        f"{name}, {how}": partial(training, recurrence=value, implementation=how)
        for (name, value), how in product(recurrences.items(), IMPLEMENTATIONS)
    }
