"""JAX: one jitted call does many updates with scans; the parameters are donated.

Input rows are gathered, and logits and the input products of upper layers are one product over T·B outside
the scan over time, which is unrolled in several ways. The backward pass is JAX's own, or it is written by
hand so that every weight gradient is one product, which is faster at most sizes: for one vanilla layer the
whole backward pass, else that of the recurrence.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

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

UPDATES_PER_CALL = 500


def arrays(job: Workload, weights: Weights) -> dict[str, jax.Array]:
    """The weights with shapes (input, output), in the precision of the job."""
    jax.config.update("jax_enable_x64", job.dtype == "float64")
    return {name: jnp.array(array.T) for name, array in weights.items()}


def rnn(x, z, state):
    """The next state (h,), from the input product and the recurrent product (B, H)."""
    del state
    return (jnp.tanh(x + z),)


def gru(x, z, state):
    """The next state (h,), from products (B, 3·H)."""
    x_r, x_z, x_n = jnp.split(x, 3, -1)
    z_r, z_z, z_n = jnp.split(z, 3, -1)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + z_r) * z_n)
    return (n + jax.nn.sigmoid(x_z + z_z) * (state[0] - n),)


def lstm(x, z, state):
    """The next state (h, c), from products (B, 4·H)."""
    i, f, g, o = jnp.split(x + z, 4, -1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


CELLS = {"rnn": rnn, "gru": gru, "lstm": lstm}


def layer_by_autodiff(cell, unroll, x, W, b, state):
    """The hidden states (T, B, H) from input products x, and the last state."""

    def step(state, x):
        z = state[0] @ W
        state = cell(x, z if b is None else z + b, state)
        return state, state[0]

    state, hs = jax.lax.scan(step, state, x, unroll=unroll)
    return hs, state


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def layer_by_hand(cell, unroll, x, W, b, state):
    """The same, with one product for the gradient of W."""
    return layer_by_autodiff(cell, unroll, x, W, b, state)


def layer_forward(cell, unroll, x, W, b, state):
    """The results of `layer_by_hand`, and the arrays that its backward pass needs."""

    def step(state, x):
        z = state[0] @ W
        after, pullback = jax.vjp(cell, x, z if b is None else z + b, state)
        return after, (after[0], pullback)

    last, (hs, pullbacks) = jax.lax.scan(step, state, x, unroll=unroll)
    return (hs, last), (pullbacks, hs, W, b, state[0])


def layer_backward(cell, unroll, kept, gradients):
    """The gradients of x, W, b and state."""
    pullbacks, hs, W, b, h = kept
    dhs, dlast = gradients
    added = cell is not gru  # x and z are only added, so their gradients are equal

    def step(dstate, now):
        pullback, dh = now
        dx, dz, dstate = pullback((dstate[0] + dh, *dstate[1:]))
        return (dstate[0] + dz @ W.T, *dstate[1:]), (None if added else dx, dz)

    dstate, (dx, dz) = jax.lax.scan(step, dlast, (pullbacks, dhs), reverse=True, unroll=unroll)
    before = jnp.concatenate([h[None], hs[:-1]])
    dW = before.reshape(-1, len(W)).T @ dz.reshape(-1, dz.shape[-1])
    return dz if added else dx, dW, None if b is None else dz.sum((0, 1)), dstate


layer_by_hand.defvjp(layer_forward, layer_backward)


def hidden_states(params, ids, state, cell, layer, unroll):
    """The hidden states (T, B, H) of the last layer, and the last state of each layer."""
    hs, carried = None, []
    for l, carry in enumerate(state):
        W_ih = params[f"weight_ih_l{l}"]
        x = (hs @ W_ih if l else W_ih[ids]) + params[f"bias_l{l}"]
        b = None
        if cell is gru:
            b = jnp.pad(params[f"bias_hn_l{l}"], (2 * carry[0].shape[-1], 0))
        hs, last = layer(cell, unroll, x, params[f"weight_hh_l{l}"], b, carry)
        carried.append(last)
    return hs, tuple(carried)


def zeros(job: Workload):
    """The first state of each layer, zeros."""
    h = jnp.zeros((job.B, job.H), job.dtype)
    return (((h, h) if job.cell == "lstm" else (h,)),) * job.num_layers


def log_probabilities(params, hs):
    return jax.nn.log_softmax(hs @ params["head.weight"] + params["head.bias"])


def losses_of(log_p, targets):
    return -jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]


def by_autodiff(params, state, inputs, targets, cell, unroll, layer=layer_by_autodiff):
    """The loss, the gradients and the last state of a window."""

    def loss(params):
        hs, last = hidden_states(params, inputs, state, cell, layer, unroll)
        return losses_of(log_probabilities(params, hs), targets).sum(), last

    (total, last), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return total, grads, last


layers_by_hand = partial(by_autodiff, layer=layer_by_hand)


def by_hand(params, state, inputs, targets, cell, unroll):
    """The same, written by hand for one vanilla layer."""
    H, V = params["head.weight"].shape
    ((h,),) = state
    hs, last = hidden_states(params, inputs, state, cell, layer_by_autodiff, unroll)
    log_p = log_probabilities(params, hs)
    dlogits = (jnp.exp(log_p) - jax.nn.one_hot(targets, V, dtype=log_p.dtype)).reshape(-1, V)
    dhs = (dlogits @ params["head.weight"].T).reshape(hs.shape)

    def step(carry, now):
        dh, h = now
        dz = (dh + carry) * (1 - h * h)
        return dz @ params["weight_hh_l0"].T, dz

    _, dz = jax.lax.scan(step, jnp.zeros_like(h), (dhs, hs), reverse=True, unroll=unroll)
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


@partial(
    jax.jit, static_argnames=("optimizer", "learning_rate", "backward", "cell", "unroll"), donate_argnums=0
)
def updates(carried, windows, optimizer, learning_rate, backward, cell, unroll):
    """Do an update on each window. Parameters, sums of squares and the state are carried."""

    def update(carried, window):
        params, squares, state = carried
        loss, grads, state = backward(params, state, *window, cell, unroll)
        grads = jax.tree.map(lambda g: jnp.clip(g, -CLIP, CLIP), grads)
        if optimizer == "sgd":
            params = jax.tree.map(lambda p, g: p - learning_rate * g, params, grads)
        else:
            squares = jax.tree.map(lambda s, g: s + g * g, squares, grads)
            params = jax.tree.map(lambda p, g, s: p - learning_rate * g / jnp.sqrt(s), params, grads, squares)
        return (params, squares, state), loss

    return jax.lax.scan(update, carried, windows)


def training(job: Training, weights: Weights, threads: int, *, backward, unroll) -> Run:  # noqa: ARG001
    params = arrays(job, weights)
    squares = jax.tree.map(lambda p: jnp.full_like(p, INITIAL_ACCUMULATOR), params)
    carried = jax.tree.map(jnp.array, (params, {} if job.optimizer == "sgd" else squares, zeros(job)))
    ids = job.windows_of_ids()
    calls = [
        tuple(jnp.array(part[first : first + UPDATES_PER_CALL]) for part in ids)
        for first in range(0, job.windows, UPDATES_PER_CALL)
    ]

    def run() -> np.ndarray:
        nonlocal carried
        losses = []
        for windows in calls:
            carried, part = updates(
                carried, windows, job.optimizer, job.learning_rate, backward, CELLS[job.cell], unroll
            )
            losses.append(part)
        return np.concatenate(losses)

    return run


@partial(jax.jit, static_argnames=("T",))
def draw(params, key, T):
    """Draw T ids: each is the argmax of logits plus Gumbel noise. All the noise is drawn at once."""
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


@partial(jax.jit, static_argnames=("cell", "unroll"))
def score(params, ids, state, cell, unroll):
    hs, _ = hidden_states(params, ids[:-1], state, cell, layer_by_autodiff, unroll)
    return losses_of(log_probabilities(params, hs), ids[1:])


def scoring(job: Scoring, weights: Weights, threads: int, *, unroll: int) -> Run:  # noqa: ARG001
    params = arrays(job, weights)
    ids, cell = jnp.array(job.streams()), CELLS[job.cell]
    return lambda: np.asarray(score(params, ids, zeros(job), cell, unroll))[:, 0] / math.log(2)


def forms(job: Workload) -> dict[str, Build]:
    if isinstance(job, Lines):  # it compiles each shape anew
        return {}
    if isinstance(job, Sampling):
        return {"scan": sampling} if job.is_plain else {}
    if isinstance(job, Scoring):
        return {f"unroll {unroll}": partial(scoring, unroll=unroll) for unroll in (1, 5, 25)}
    backwards = {"by hand": by_hand if job.is_plain else layers_by_hand, "autodiff": by_autodiff}
    # to unroll a whole window of LSTM steps takes up to a minute to compile, and was never the fastest
    unrolls = {1, 5} if job.cell == "lstm" else {1, 5, job.T}
    return {
        f"{name}, unroll {unroll}": partial(training, backward=backward, unroll=unroll)
        for (name, backward), unroll in product(backwards.items(), sorted(unrolls))
    }
