"""A snapshot reads with weights that were packed once, and gives the losses of its network."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from helpers import CELLS, Window, draw_parameters, input_settings, parts_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import Network, get_backend
from fastrnn.core import memory
from fastrnn.core.constants import BARRIER
from fastrnn.core.plan import ALONE, Split, reading_plan
from fastrnn.core.thread_team import Team


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("T", "B"), [(1, 1), (5, 1), (1, 9), (3, 300)])
def test_a_window_is_read_with_packed_weights(backend: str, T: int, B: int, cell: str):
    for num_layers, kind in itertools.product((1, 2), ("one-hot", "embedding", "tied")):
        options = {"num_layers": num_layers, **CELLS[cell], **input_settings(kind, 11)}
        network = draw_parameters(Network(7, 11, dtype="float64", backend=backend, **options))
        window = Window.of(network, T, B)
        expected, after = network.losses(window.inputs, window.targets, window.state, window.starts)
        inputs, targets = window.inputs.astype(np.int32), window.targets.astype(np.int32)
        for split, longest in ((ALONE, T), (Split(2), T), (Split(3, by_columns=True), T + 2)):
            plan, size = reading_plan(network.shape, longest, B, split)
            prepared, scratch = (memory.aligned(n, network.dtype) for n in (size, plan.size))
            network.backend.network_prepare(
                prepared=prepared, params=network.flat, plan=plan.numbers, part=0, parts=1
            )
            state, losses = network.checked_state(window.state, B), np.empty((T, B))
            totals = np.arange(B, dtype=np.float64)
            barrier = np.zeros(BARRIER, np.int32)
            read = partial(
                network.backend.network_read,
                losses=losses, totals=totals, state=state, scratch=scratch, barrier=barrier,
                prepared=prepared, params=network.flat, inputs=inputs, targets=targets, starts=window.starts,
                plan=plan.numbers, unit=0.7, parts=split.parts, T=T, B=B,
            )  # fmt: skip
            Team().run(split.parts, lambda part, read=read: read(part=part))
            np.testing.assert_array_equal(losses, expected / 0.7)
            sums = np.cumsum(np.concatenate([[np.arange(B)], losses]), axis=0)
            np.testing.assert_array_equal(totals, sums[-1])
            for actual, wanted in zip(state, parts_of(after), strict=True):
                np.testing.assert_array_equal(actual, wanted)


@given(n=st.integers(1, 700), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_row_of_any_length_is_read(compiled: str, n: int, seed: int):
    network = draw_parameters(Network(7, 5, cell="lstm", backend=compiled))
    before, *ids = np.random.default_rng(seed).integers(0, 7, n + 1).astype(np.int32)
    losses, state = network.losses(np.array([[before, *ids[:-1]]]).T, np.array([ids]).T)
    bits, total, after = network.snapshot().read(
        int(before), network.checked_state(None, 1), np.array(ids), 3.5
    )
    np.testing.assert_array_equal(bits, losses[:, 0] / np.log(2))
    assert total == sum(bits.tolist(), 3.5)
    np.testing.assert_array_equal(after, np.stack(state))


@given(lengths=st.lists(st.integers(0, 20), max_size=12), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_of_any_lengths_are_read(compiled: str, lengths: list[int], seed: int):
    network = draw_parameters(Network(7, 5, cell="gru", backend=compiled))
    rng, B, counts = np.random.default_rng(seed), len(lengths), np.array(lengths, np.int64)
    before, ids = (rng.integers(0, 7, n).astype(np.int32) for n in (B, sum(lengths)))
    places = 2 * rng.permutation(B + 3)[:B] + rng.integers(0, 2, B)
    states = rng.uniform(-1, 1, (1, 1, 2 * (B + 3), 5)).astype(np.float32)
    ends, bits, totals = np.cumsum(counts), np.empty(len(ids)), np.arange(B, dtype=np.float64)
    snapshot, kept = network.snapshot(), states.copy()
    snapshot.read_rows(bits, totals, before, states, places, ids, ends - counts, counts)
    for b, place in enumerate(places):
        row = slice(ends[b] - counts[b], ends[b])
        expected, _, after = snapshot.read(int(before[b]), kept[:, :, place : place + 1], ids[row])
        np.testing.assert_array_equal(bits[row], expected)
        np.testing.assert_array_equal(states[:, :, [place ^ 1]], after)
        assert totals[b] == sum(expected.tolist(), b)
        kept[:, :, place ^ 1] = states[:, :, place ^ 1]
    np.testing.assert_array_equal(states, kept)  # nothing else was written


def test_it_is_made_anew_only_if_the_parameters_change(backend: str):
    network = Network(5, 4, backend=backend, threads=1)
    first = network.snapshot()
    assert network.snapshot() is first
    network.flat[3] = np.nan
    second = network.snapshot()
    assert second is not first
    assert network.snapshot() is second  # though NaN is not equal to itself
    network.threads = 2
    assert network.snapshot() is not second
    assert not np.isnan(first.flat).any()
    assert network.with_parameters(memory.lasting(network.flat.size, network.dtype)).snapshot() is not second


def test_its_digest_is_that_of_the_parameters():
    network = Network(5, 4, rng=0)
    digest = network.snapshot().digest
    assert digest == Network(5, 4, rng=0).snapshot().digest
    network.flat[0] += 1
    assert digest != network.snapshot().digest


def test_the_arrays_of_a_call_may_be_bound(backend: str):
    y, x = np.empty(3), np.array([0.0, 1.0, -1.0])
    call = get_backend(backend).bound("elementary", y, x)
    for scale in (1, 2):
        x *= scale
        call(0, 3)
        np.testing.assert_allclose(y, np.exp(x), rtol=1e-15)
    with pytest.raises(RuntimeError, match="kernel elementary"):
        call(99, 3)


def test_bound_arrays_are_checked_by_c():
    with pytest.raises(TypeError, match="float64, and got int32"):
        get_backend("c").bound("elementary", np.empty(3), np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="contiguous"):
        get_backend("c").bound("elementary", np.empty(6)[::2], np.zeros(3))
