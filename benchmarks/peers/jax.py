"""JAX: many updates in one jitted call of scans, with the parameters donated.

Input rows are gathered, and logits are one product over T·B outside the scan over time, which is unrolled
in three ways. The backward pass is JAX's own, or, faster at most sizes, written out so that every weight
gradient is one product too.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import Build, Run
from benchmarks.workloads import CLIP, INITIAL_ACCUMULATOR, Sampling, Scoring, Training, Weights, Workload

UPDATES_PER_CALL = 500


def arrays(job: Workload, weights: Weights) -> dict[str, jax.Array]:
    """The weights as (input, output), and as float64 where the job is."""
    jax.config.update("jax_enable_x64", job.dtype == "float64")
    return {name: jnp.array(array.T) for name, array in weights.items()}


def hidden_states(params, ids, h, unroll):
    """(T, B, H), and the last one."""

    def cell(h, x):
        h = jnp.tanh(x + h @ params["weight_hh_l0"])
        return h, h

    h, hs = jax.lax.scan(cell, h, params["weight_ih_l0"][ids] + params["bias_l0"], unroll=unroll)
    return hs, h


def log_probabilities(params, hs):
    return jax.nn.log_softmax(hs @ params["head.weight"] + params["head.bias"])


def losses_of(log_p, targets):
    return -jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]


def by_autodiff(params, h, inputs, targets, unroll):
    """Loss, gradients and last state of a window."""

    def loss(params):
        hs, last = hidden_states(params, inputs, h, unroll)
        return losses_of(log_probabilities(params, hs), targets).sum(), last

    (total, last), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return total, grads, last


def by_hand(params, h, inputs, targets, unroll):
    """The same, written out."""
    H, V = params["head.weight"].shape
    hs, last = hidden_states(params, inputs, h, unroll)
    log_p = log_probabilities(params, hs)
    dlogits = (jnp.exp(log_p) - jax.nn.one_hot(targets, V, dtype=log_p.dtype)).reshape(-1, V)
    dhs = (dlogits @ params["head.weight"].T).reshape(hs.shape)

    def cell(carry, step):
        dh, h = step
        dz = (dh + carry) * (1 - h * h)
        return dz @ params["weight_hh_l0"].T, dz

    _, dz = jax.lax.scan(cell, jnp.zeros_like(h), (dhs, hs), reverse=True, unroll=unroll)
    before = jnp.concatenate([h[None], hs[:-1]])
    dz = dz.reshape(-1, H)
    grads = {
        "weight_ih_l0": jnp.zeros_like(params["weight_ih_l0"]).at[inputs.reshape(-1)].add(dz),
        "weight_hh_l0": before.reshape(-1, H).T @ dz,
        "bias_l0": dz.sum(0),
        "head.weight": hs.reshape(-1, H).T @ dlogits,
        "head.bias": dlogits.sum(0),
    }
    return losses_of(log_p, targets).sum(), grads, last


@partial(jax.jit, static_argnames=("optimizer", "rate", "backward", "unroll"), donate_argnums=0)
def updates(carried, windows, optimizer, rate, backward, unroll):
    """An update for each window; carried are parameters, sums of squares and state."""

    def update(carried, window):
        params, squares, h = carried
        loss, grads, h = backward(params, h, *window, unroll)
        grads = jax.tree.map(lambda g: jnp.clip(g, -CLIP, CLIP), grads)
        if optimizer == "sgd":
            params = jax.tree.map(lambda p, g: p - rate * g, params, grads)
        else:
            squares = jax.tree.map(lambda s, g: s + g * g, squares, grads)
            params = jax.tree.map(lambda p, g, s: p - rate * g / jnp.sqrt(s), params, grads, squares)
        return (params, squares, h), loss

    return jax.lax.scan(update, carried, windows)


def training(job: Training, weights: Weights, threads: int, *, backward, unroll) -> Run:  # noqa: ARG001
    params = arrays(job, weights)
    squares = jax.tree.map(lambda p: jnp.full_like(p, INITIAL_ACCUMULATOR), params)
    carried = params, {} if job.optimizer == "sgd" else squares, jnp.zeros((job.B, job.H), job.dtype)
    ids = job.windows_of_ids()
    calls = [
        tuple(jnp.array(part[first : first + UPDATES_PER_CALL]) for part in ids)
        for first in range(0, job.windows, UPDATES_PER_CALL)
    ]

    def run() -> np.ndarray:
        nonlocal carried
        losses = []
        for windows in calls:
            carried, part = updates(carried, windows, job.optimizer, job.learning_rate, backward, unroll)
            losses.append(part)
        return np.concatenate(losses)

    return run


@partial(jax.jit, static_argnames=("T",))
def draw(params, key, T):
    """T ids, each the largest of logits with Gumbel noise, which is all drawn at once."""
    H, V = params["head.weight"].shape
    x = params["weight_ih_l0"] + params["bias_l0"]
    noise = jax.random.gumbel(key, (T, V), x.dtype) + params["head.bias"]

    def step(carried, noise):
        symbol, h = carried
        h = jnp.tanh(x[symbol] + h @ params["weight_hh_l0"])
        symbol = jnp.argmax(noise + h @ params["head.weight"])
        return (symbol, h), symbol

    return jax.lax.scan(step, (jnp.argmax(jnp.zeros(1)), jnp.zeros(H, x.dtype)), noise)[1]


def sampling(job: Sampling, weights: Weights, threads: int) -> Run:  # noqa: ARG001
    params = arrays(job, weights)
    key = jax.random.key(0)

    def run() -> np.ndarray:
        nonlocal key
        key, now = jax.random.split(key)
        return np.asarray(draw(params, now, job.T))

    return run


@partial(jax.jit, static_argnames=("unroll",))
def score(params, ids, unroll):
    h = jnp.zeros((ids.shape[1], len(params["bias_l0"])), params["bias_l0"].dtype)
    hs, _ = hidden_states(params, ids[:-1], h, unroll)
    return losses_of(log_probabilities(params, hs), ids[1:])


def scoring(job: Scoring, weights: Weights, threads: int, *, unroll: int) -> Run:  # noqa: ARG001
    params = arrays(job, weights)
    ids = jnp.array(job.streams())
    return lambda: np.asarray(score(params, ids, unroll))[:, 0] / math.log(2)


def forms(job: Workload) -> dict[str, Build]:
    if isinstance(job, Sampling):
        return {"scan": sampling}
    if isinstance(job, Scoring):
        return {f"unroll {unroll}": partial(scoring, unroll=unroll) for unroll in (1, 5, 25)}
    backwards = {"by hand": by_hand, "autodiff": by_autodiff}
    return {
        f"{name}, unroll {unroll}": partial(training, backward=backward, unroll=unroll)
        for (name, backward), unroll in product(backwards.items(), sorted({1, 5, job.T}))
    }
