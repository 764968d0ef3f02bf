"""PyTorch: autograd, with its own clipping and optimizers; inference without autograd.

The recurrence is one of PyTorch's modules on one-hot inputs (oneDNN makes the LSTM twice as fast), or a loop
over gathered rows of the input weights. Each is tried with the three implementations of the optimizers. The
second bias of a module stays zero, except in the GRU's new gate. `torch.compile` of the loops, whole or step
by step, was not faster than the modules.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import numpy as np
import torch
from torch.nn import functional

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
from fastrnn.core.cells import CELLS

IMPLEMENTATIONS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}

MODULES = {name: getattr(torch.nn, cell.module) for name, cell in CELLS.items() if cell.module}

#: How many lines are padded and scored at a time.
BATCH_SIZES = (64, 128, 256, 512, 1024)

#: The state, each array (L, B, H): h, and for the LSTM c.
State = tuple[torch.Tensor, ...]


def rnn_layer(x: torch.Tensor, state: State, W: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, State]:  # noqa: ARG001
    """The hidden states (T, B, H) and the last state (B, H), from input products x (T, B, H)."""
    (h,), hs = state, []
    for step in x.unbind():
        h = torch.addmm(step, h, W).tanh()
        hs.append(h)
    return torch.stack(hs), (h,)


def gru_layer(x: torch.Tensor, state: State, W: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, State]:
    """The same, from input products (T, B, 3·H)."""
    (h,), hs = state, []
    H = h.shape[1]
    W_rz, W_n, b_n = W[:, : 2 * H], W[:, 2 * H :], b[2 * H :]
    for x_rz, x_n in zip(x[..., : 2 * H].unbind(), x[..., 2 * H :].unbind(), strict=True):
        r, z = torch.addmm(x_rz, h, W_rz).sigmoid().chunk(2, 1)
        n = torch.addcmul(x_n, r, torch.addmm(b_n, h, W_n)).tanh()
        h = torch.lerp(n, h, z)
        hs.append(h)
    return torch.stack(hs), (h,)


def lstm_layer(x: torch.Tensor, state: State, W: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, State]:  # noqa: ARG001
    """The same, from input products (T, B, 4·H)."""
    (h, c), hs = state, []
    for step in x.unbind():
        i, f, g, o = torch.addmm(step, h, W).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hs.append(h)
    return torch.stack(hs), (h, c)


LAYERS = {"rnn": rnn_layer, "gru": gru_layer, "lstm": lstm_layer}


class Network(torch.nn.Module):
    """One-hot input, recurrent layers, linear head."""

    def __init__(self, job: Workload, weights: Weights, threads: int) -> None:
        super().__init__()
        torch.set_num_threads(threads)
        self.rnn = MODULES[job.cell](job.V, job.H, job.num_layers)
        self.head = torch.nn.Linear(job.H, job.V)
        self.to(getattr(torch, job.dtype))
        tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
        self.head.weight.data, self.head.bias.data = tensors["head.weight"], tensors["head.bias"]
        for layer, (W_ih, W_hh, b_ih, b_hh) in enumerate(self.rnn.all_weights):
            W_ih.data, W_hh.data = tensors[f"weight_ih_l{layer}"], tensors[f"weight_hh_l{layer}"]
            b_ih.data = tensors[f"bias_l{layer}"]
            b_hh.data.zero_()
            if job.cell == "gru":
                b_hh.data[2 * job.H :] = tensors[f"bias_hn_l{layer}"]
                b_hh.register_hook(partial(torch.mul, (torch.arange(3 * job.H) >= 2 * job.H).to(b_hh.dtype)))
            else:
                b_hh.requires_grad_(False)
        self.layer = LAYERS[job.cell]
        self.identity = torch.eye(job.V, dtype=self.head.weight.dtype)
        self.zeros = (self.head.weight.new_zeros(job.num_layers, job.B, job.H),) * len(CELLS[job.cell].state)

    def one_hot(self, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """The hidden states (T, B, H) of ids (T, B), and the last state."""
        hs, last = self.rnn(self.identity[ids], state if len(state) > 1 else state[0])
        return hs, last if len(state) > 1 else (last,)

    def gathered(self, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """The same, with gathered rows of the input weights and a loop over time."""
        hs, carried = ids, []
        for layer, (W_ih, W_hh, b_ih, b_hh) in enumerate(self.rnn.all_weights):
            x = functional.linear(hs, W_ih, b_ih) if layer else functional.embedding(ids, W_ih.t()) + b_ih
            hs, last = self.layer(x, tuple(part[layer] for part in state), W_hh.t(), b_hh)
            carried.append(last)
        return hs, tuple(torch.stack(parts) for parts in zip(*carried, strict=True))

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
    state = network.zeros

    def run() -> list[float]:
        nonlocal state
        losses = []
        for inputs, targets in windows:
            hs, last = hidden_states(inputs, state)
            loss = network.cross_entropy(hs, targets, "sum")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(parameters, CLIP, foreach=how.get("foreach", False))
            optimizer.step()
            state = tuple(part.detach() for part in last)
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
        """The argmax of logits plus Gumbel noise is a draw; all the noise is drawn at once."""
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
        hs, _ = hidden_states(ids[:-1], network.zeros)
        nats = network.cross_entropy(hs, ids[1:], "none").view(job.T, job.B)
        return nats[:, 0].numpy() / math.log(2)

    return run


def lines(job: Lines, weights: Weights, threads: int, *, recurrence: str, batch_size: int) -> Run:
    """Batches of lines that are padded to the longest one."""
    network = Network(job, weights, threads)
    hidden_states = getattr(network, recurrence)
    ids = [torch.from_numpy(line).long() for line in job.lines()]

    @torch.inference_mode()
    def run() -> np.ndarray:
        order = sorted(range(job.B), key=lambda line: len(ids[line])) if job.may_sort else range(job.B)
        bits: list[np.ndarray] = [np.empty(0)] * job.B
        for start in range(0, job.B, batch_size):
            some = order[start : start + batch_size]
            padded = torch.nn.utils.rnn.pad_sequence([ids[line] for line in some])
            state = tuple(part[:, : len(some)] for part in network.zeros)
            hs, _ = hidden_states(padded[:-1], state)
            nats = network.cross_entropy(hs, padded[1:], "none").view(-1, len(some))
            found = (nats / math.log(2)).t().contiguous().numpy()
            for row, line in enumerate(some):
                bits[line] = found[row, : len(ids[line]) - 1]
        return bits[0]

    return run


def forms(job: Workload) -> dict[str, Build]:
    if isinstance(job, Sampling):
        names = ("Gumbel noise", "multinomial", "modules") if job.is_plain else ()
        return {form: partial(sampling, form=form) for form in names}
    recurrences = {"gathered": "gathered", "one-hot": "one_hot"}
    if isinstance(job, Lines):
        return {
            f"{name}, {batch_size} lines": partial(lines, recurrence=value, batch_size=batch_size)
            for (name, value), batch_size in product(recurrences.items(), BATCH_SIZES)
        }
    if isinstance(job, Scoring):
        return {name: partial(scoring, recurrence=value) for name, value in recurrences.items()}
    return {
        f"{name}, {how}": partial(training, recurrence=value, implementation=how)
        for (name, value), how in product(recurrences.items(), IMPLEMENTATIONS)
    }
