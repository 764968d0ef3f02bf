"""The kernels of counts: against counts of substrings, against the reference, and against each other."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from helpers.counts import Tables, draw_gate
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import (
    BINS,
    CHILD,
    COLUMNS,
    COUNT,
    DISTINCT,
    FLOOR,
    LIMIT,
    PARENT,
    READ,
    SIBLING,
    SYMBOL,
    TABLE,
    TOTAL,
    USED,
)

BACKENDS = ["numpy", "c", "numba"]


def drawn_text(seed: int, n: int, V: int) -> Any:
    """Ids with repeats, so that long contexts come again."""
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, V, rng.integers(1, 6)) for _ in range(5)]
    return np.concatenate([words[i] for i in rng.integers(0, 5, n)])[:n].astype(np.int32)


def contexts_of(nodes: Any, used: int) -> dict[tuple[int, ...], int]:
    """Each node's symbols from the root on, and its number."""
    found: dict[tuple[int, ...], int] = {(): 0}
    names = {0: ()}
    for node in range(1, used):
        names[node] = (*names[int(nodes[node, PARENT])], int(nodes[node, SYMBOL]))
        found[names[node]] = node
    return found


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param != "numpy":
        from conftest import require_backend

        require_backend(request.param)
    return str(request.param)


@pytest.mark.parametrize("F", [1, 2, 5, 15])
def test_a_table_has_the_counts_of_substrings(backend: str, F: int):
    text = drawn_text(F, 150, 4)
    tables = Tables(backend, F, 5000)
    tables.count(text)
    expected = Counter(
        tuple(text[i - k : i + 1].tolist()) for i in range(1, len(text)) for k in range(min(F, i - 1) + 1)
    )  # the first symbol is not counted, and so is no context
    nodes = contexts_of(tables.nodes, int(tables.table[USED]))
    del nodes[()]
    assert {name: int(tables.nodes[node, COUNT]) for name, node in nodes.items()} == dict(expected)
    for name, node in nodes.items():
        after = {one: n for one, n in expected.items() if one[:-1] == name}
        assert tables.nodes[node, TOTAL] == sum(after.values())
        assert tables.nodes[node, DISTINCT] == len(after)


@pytest.mark.parametrize("made", [1, 2])
def test_a_symbol_makes_few_nodes_those_of_its_shortest_contexts(backend: str, made: int):
    tables = Tables(backend, 5, 100, made=made)
    for times in range(1, 4):
        tables.count(np.arange(8))
        names = contexts_of(tables.nodes, int(tables.table[USED]))
        tables.contexts[:] = 0
        longest = max(map(len, names))
        # the first time, the context of no symbol only has its symbols
        assert longest == min(6, times * made)
        assert all(name[1:] in names for name in names if name)


def test_a_text_that_starts_anew_has_contexts_of_its_own(backend: str):
    inputs, targets = np.array([9, 1, 2, 9, 1, 3]), np.array([1, 2, 9, 1, 3, 9])
    tables = Tables(backend, 3, 100)
    tables.count(inputs, targets, [1, 0, 0, 1, 0, 0])
    names = contexts_of(tables.nodes, int(tables.table[USED]))
    assert (2, 9, 1) not in names
    assert tables.nodes[names[9, 1], COUNT] == 1, "9 had been counted when it began the second text"
    assert tables.nodes[names[9, 1, 3], COUNT] == 1


def test_a_target_of_minus_one_is_not_counted_and_an_input_of_minus_one_is_not_read(backend: str):
    tables = Tables(backend, 2, 100)
    tables.count(np.array([-1, 5, 6]), np.array([5, -1, 7]), [1, 0, 0])
    names = contexts_of(tables.nodes, int(tables.table[USED]))
    assert set(names) == {(), (5,), (7,)}


@given(st.integers(0, 10**6), st.integers(1, 15), st.integers(1, 9), st.integers(0, 80), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("compiled_backend", ["c", "numba"])
def test_tables_are_those_of_the_reference(
    compiled_backend: str, seed: int, F: int, V: int, n: int, limit: int
):
    """With any sizes, starts and limits, also when they are full."""
    rng = np.random.default_rng(seed)
    text = drawn_text(seed, n + 1, V)
    room = int(rng.integers(F + 1, 40 * F))
    inputs, targets = text[:-1].copy(), text[1:].copy()
    inputs[rng.random(n) < 0.1] = -1
    targets[rng.random(n) < 0.1] = -1
    starts = rng.random(n) < 0.1
    made = int(rng.integers(1, 5))
    one, other = (Tables(name, F, room, limit, made) for name in ("numpy", compiled_backend))
    for tables in (one, other):
        tables.count(inputs, targets, starts)
    for name in ("nodes", "table", "contexts"):
        assert (getattr(one, name) == getattr(other, name)).all(), name
    assert one.table[READ] == n or one.table[USED] + F + 1 > room


@given(
    st.integers(0, 10**6),
    st.integers(1, 15),
    st.integers(1, 9),
    st.integers(0, 80),
    st.sampled_from([0, 0.4]),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("learns", [0, 1])
def test_mixtures_are_those_of_the_reference(learns: int, seed: int, F: int, V: int, n: int, rate: float):
    found = {}
    for backend in BACKENDS:
        rng = np.random.default_rng(seed)
        tables = Tables(backend, F, 3000)
        tables.count(drawn_text(seed, 100, V))
        tables.use_learning(60 * F, 30)
        tables.gate[:] = draw_gate(rng, F)
        text, starts = drawn_text(seed + 1, n + 1, V), rng.random(n) < 0.05
        losses = tables.mix(rng.exponential(2, n), text, V, starts=starts, rate=rate, learns=learns)
        found[backend] = losses, tables
    for name in ("c", "numba"):
        losses, tables = found[name]
        np.testing.assert_allclose(losses, found["numpy"][0], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(tables.gate, found["numpy"][1].gate, rtol=1e-9, atol=1e-11)
        for array in ("learning_nodes", "learning_table", "mix_contexts"):
            assert (getattr(tables, array) == getattr(found["numpy"][1], array)).all(), array
    for array in ("gate", "squares"):
        assert (getattr(found["c"][1], array) == getattr(found["numba"][1], array)).all()
    assert (found["c"][0] == found["numba"][0]).all()


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0, 0.5]))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("learns", [0, 1])
@pytest.mark.parametrize("compiled_backend", BACKENDS)
def test_the_loss_of_a_symbol_is_that_of_the_whole_distribution(
    compiled_backend: str, learns: int, seed: int, F: int, V: int, rate: float
):
    """It sums to one, and is at least 2^-FLOOR."""
    rng = np.random.default_rng(seed)
    tables = Tables(compiled_backend, F, 3000)
    tables.count(drawn_text(seed, 60, V))
    tables.use_learning(100 * F)
    tables.gate[:] = draw_gate(rng, F)
    text = drawn_text(seed + 1, 12, V)
    for i in range(len(text) - 1):
        before = rng.dirichlet(np.ones(V))
        tables.append(text[i], learns)
        distribution = tables.distribution(before, learns)
        assert abs(distribution.sum() - 1) < 1e-13
        assert distribution.min() >= 2.0**-FLOOR
        target = text[i + 1]
        loss = tables.mix_next(-math.log(before[target]), target, V, rate, learns)
        assert loss == pytest.approx(-math.log(distribution[target]), rel=1e-12, abs=1e-12)


def test_no_loss_knows_what_follows(backend: str):
    text, V, F = drawn_text(3, 60, 5), 5, 4
    losses = []
    for last in (0, 4):
        tables = Tables(backend, F, 3000)
        tables.count(drawn_text(4, 60, V))
        tables.use_learning(3000)
        changed = text.copy()
        changed[40] = last
        losses.append(tables.mix(np.full(59, 1.5), changed, V, rate=0.5, learns=1))
    assert (losses[0][:39] == losses[1][:39]).all()
    assert losses[0][39] != losses[1][39]


def test_reading_in_pieces_gives_the_same(backend: str):
    text, V, F = drawn_text(5, 90, 6), 6, 5
    whole, parts = ({}, {})
    for found, cuts in ((whole, [0, 89]), (parts, [0, 1, 2, 30, 31, 89])):
        tables = Tables(backend, F, 3000)
        tables.count(drawn_text(4, 60, V))
        tables.use_learning(3000)
        found["losses"] = np.concatenate(
            [
                tables.mix(np.full(e - b, 2.0), text[b : e + 1], V, rate=0.5, learns=1)
                for b, e in itertools.pairwise(cuts)
            ]
        )
        found["gate"], found["nodes"] = tables.gate, tables.learning_nodes
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_an_index_is_found_again_after_growth(backend: str):
    """A table that is moved to more room goes on as if it had had the room from the beginning."""
    text = drawn_text(6, 200, 7)
    large, small = Tables(backend, 4, 4000), Tables(backend, 4, 60)
    large.count(text)
    done = 0
    while done < len(text) - 1:
        small.count(text[done:])
        done += int(small.table[READ])
        small.grow()
    assert (small.nodes[: large.table[USED]] == large.nodes[: large.table[USED]]).all()
    assert (small.contexts == large.contexts).all()


@given(st.integers(0, 10**6), st.integers(1, 15), st.integers(1, 9), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("compiled_backend", ["c", "numba"])
def test_what_is_rare_or_old_goes_first(compiled_backend: str, seed: int, F: int, V: int, share: float):
    """Twice, since what was not counted since the first time is halved; the tree stays one."""
    found = []
    for backend in ("numpy", compiled_backend):
        tables, text = Tables(backend, F, 4000), drawn_text(seed, 200, V)
        for part in (text[:100], text[100:]):
            tables.count(part)
            most = int(share * (tables.table[USED] - 1))
            tables.prune(most)
            assert tables.table[USED] == 1 + most
            check_tree(tables.nodes, most + 1)
        found.append(tables)
    for name in ("nodes", "table", "contexts"):
        assert (getattr(found[0], name) == getattr(found[1], name)).all(), name


def check_tree(nodes: Any, used: int) -> None:
    """Require that totals, numbers of children and lists of children agree with parents and counts."""
    children: dict[int, list[int]] = {}
    for node in range(1, used):
        assert nodes[node, PARENT] < node
        children.setdefault(int(nodes[node, PARENT]), []).append(node)
    for node in range(used):
        own, listed, child = children.get(node, []), [], int(nodes[node, CHILD])
        while child:
            listed.append(child)
            child = int(nodes[child, SIBLING])
        assert listed == own[::-1]
        assert nodes[node, TOTAL] == nodes[own, COUNT].sum()
        assert nodes[node, DISTINCT] == len(own) == len(set(nodes[own, SYMBOL].tolist()))


@pytest.mark.parametrize(("most", "kept"), [(4, "abcd"), (3, "acd"), (2, "ac"), (1, "a"), (0, "")])
def test_the_order_in_which_nodes_go(backend: str, most: int, kept: str):
    """First those with the fewest counts; of these, those that were seen longest ago."""
    tables = Tables(backend, 1, 100)
    tables.count(np.full(7, -1), np.array([0, 0, 0, 1, 2, 2, 3]))
    tables.prune(most)
    assert {"abcd"[symbol] for symbol in tables.nodes[1 : tables.table[USED], SYMBOL]} == set(kept)


def test_what_is_not_seen_again_becomes_rare(backend: str):
    tables = Tables(backend, 1, 100)
    tables.count(np.full(9, -1), np.array([0] * 9))
    tables.prune(1)
    tables.count(np.full(6, -1), np.array([1] * 6))
    tables.prune(2)
    assert tables.nodes[1:3, [SYMBOL, COUNT]].tolist() == [[0, 5], [1, 6]]


def test_at_the_limit_counts_are_halved_and_rounded_up(backend: str):
    tables = Tables(backend, 1, 100, limit=8)
    tables.count(np.array([0, 1, 1, 1, 1, 1, 1, 2]))
    names = contexts_of(tables.nodes, int(tables.table[USED]))
    assert tables.nodes[0, TOTAL] == 7
    tables.count(np.array([2, 1]))
    assert tables.nodes[names[1,], COUNT] == 4
    assert tables.nodes[names[2,], COUNT] == 1
    assert tables.nodes[0, TOTAL] == 5
    assert tables.table[LIMIT] == 8


@pytest.mark.parametrize(("F", "room"), [(0, 10), (16, 100), (1, 0), (-1, 10)])
def test_sizes_that_cannot_be_are_refused(backend: str, F: int, room: int):
    nodes, slots = np.zeros((max(room, 1), 8), np.int32), np.zeros(512, np.int32)
    none = np.zeros(0, np.int32)
    with pytest.raises(RuntimeError, match="size"):
        get_backend(backend).count_symbols(
            nodes=nodes, slots=slots, table=np.ones(TABLE, np.int64), contexts=np.zeros(99, np.int32),
            inputs=none, targets=none, starts=np.zeros(0, np.uint8), C=room, F=F, n=0,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["inputs", "targets"])
@pytest.mark.parametrize("symbol", [-2, 4, 2**31 - 1])
def test_symbols_that_cannot_be_are_refused(backend: str, name: str, symbol: int):
    tables = Tables(backend, 2, 100)
    tables.use_learning(100)
    symbols = {"inputs": np.array([1, 2]), "targets": np.array([2, 3])}
    symbols[name][1] = symbol
    with pytest.raises(RuntimeError, match="outside"):
        tables.mix(np.ones(2), symbols["inputs"], 4, targets=symbols["targets"])
    if symbol != 4:
        with pytest.raises(RuntimeError, match="outside"):
            tables.count(symbols["inputs"], symbols["targets"])


def test_a_loss_that_is_not_a_number_stays_so_and_teaches_nothing(backend: str):
    tables = Tables(backend, 2, 100)
    tables.use_learning(100)
    losses = tables.mix(
        np.array([1.0, math.nan, math.inf, 1.0]), np.array([0, 1, 0, 1, 0]), 2, rate=0.5, learns=1
    )
    assert np.isnan(losses).tolist() == [False, True, False, False]
    assert np.isfinite(tables.gate).all()


def test_the_gate_learns_whom_to_trust(backend: str):
    """Counts that are right get the more weight, the longer they were right."""
    text, V = np.tile(np.arange(4), 60).astype(np.int32), 4
    tables = Tables(backend, 2, 500)
    tables.count(text)
    tables.use_learning(500)
    losses = tables.mix(np.full(239, math.log(4)), text, V, rate=0.5)
    assert losses[-1] < 0.02 < losses[0] < math.log(4)
    assert tables.gate.shape == (2, 2, BINS, COLUMNS)


@pytest.mark.parametrize("V", [2, 50_000])
def test_hostile_texts_are_not_slow(V: int, backend: str):
    """All the same, and all different: the index needs few looks for each."""
    if backend == "numpy":
        pytest.skip("the reference has no index")
    n = 20_000
    for text in (np.zeros(n, np.int32), (np.arange(n) % V).astype(np.int32)):
        tables = Tables(backend, 6, 8 * n)
        tables.count(text)
        assert tables.table[READ] == n - 1
        slots, used = np.flatnonzero(tables.slots), int(tables.table[USED])
        assert len(slots) == used - 1
        gaps = np.diff(np.flatnonzero(np.append(tables.slots, 0) == 0))
        assert gaps.max() < 64, "the longest run of full slots"
