"""Tables of counts in a bounded memory, and mixtures that use them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import require_backend

from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import CHILD, CLOCK, COUNT, PARENT, SEEN, SIBLING, SYMBOL, TOTAL
from fastrnn.inference.counts import (
    AT_ONCE,
    LARGEST,
    RARELY,
    CountTable,
    bytes_of,
    most_nodes,
)
from fastrnn.inference.mixture import Adaptation, Mixture

V = 30


@pytest.fixture(params=["numpy", "c", "numba"])
def kernels(request: pytest.FixtureRequest) -> Any:
    require_backend(request.param)
    return get_backend(request.param)


def drawn(n: int, seed: int = 0) -> Any:
    """A text of words that come again; all such texts have the same words."""
    rng = np.random.default_rng(100)
    words = [rng.integers(0, V, rng.integers(1, 8)) for _ in range(40)]
    rng = np.random.default_rng(seed)
    return np.concatenate([words[i] for i in rng.zipf(1.5, n) % 40])[:n].astype(np.int32)


def as_sequence(text: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and starts of one text."""
    starts = np.zeros(len(text) - 1, np.uint8)
    starts[0] = 1
    return text[:-1], text[1:], starts


def table_of(kernels: Any, text: Any, *, order: int = 4, memory: int = 1_000_000) -> CountTable:
    table = CountTable(kernels, order, memory)
    table.count(*as_sequence(text), table.new_contexts())
    return table


def mixture_of(kernels: Any, **options: Any) -> Mixture:
    mixture = Mixture(table_of(kernels, drawn(400), **options), V)
    mixture.fit(np.full(199, math.log(V)), *as_sequence(drawn(200, 1)), 100_000)
    return mixture


@pytest.mark.parametrize("memory", [40, 1000, 65_536, 10**6, 64 * 10**6, 2**26, 10**9])
def test_the_most_nodes_fit_into_the_memory(memory: int):
    most = most_nodes(memory)
    assert bytes_of(most) <= memory < bytes_of(most + 1)


def test_a_table_stays_within_its_memory(kernels: Any):
    memory, text = 20_000, drawn(1500)
    table, contexts = CountTable(kernels, 6, memory), np.zeros(7, np.int32)
    for start in range(0, 1400, 100):
        table.count(*as_sequence(text[start : start + 101]), contexts)
        assert table.n_bytes <= memory
    assert table.n_nodes > 0.5 * most_nodes(memory)


@pytest.mark.parametrize("cuts", [[0, 1, 2, 1499], [0, 700, 1499], [0, 1499]])
def test_the_counts_do_not_depend_on_pieces(kernels: Any, cuts: list[int]):
    """Nor does it matter when the table is full."""
    text = drawn(1500, 2)
    whole, parts = table_of(kernels, text, memory=15_000), CountTable(kernels, 4, 15_000)
    contexts = parts.new_contexts()
    inputs, targets, starts = as_sequence(text)
    for begin, end in itertools.pairwise(cuts):
        parts.count(inputs[begin:end], targets[begin:end], starts[begin:end], contexts)
    assert (whole.columns() == parts.columns()).all()
    assert whole.n_nodes < table_of(kernels, text).n_nodes


def test_the_backends_have_the_same_tables_and_mixtures():
    """Also after many prunings; keys of the index differ, and nothing depends on them."""
    text, found = drawn(3000, 3), []
    for name in ("c", "numba"):
        require_backend(name)
        mixture = mixture_of(get_backend(name), memory=30_000)
        adaptation = Adaptation(mixture, 20_000)
        losses = np.full(2999, 2.5)
        adaptation.mix(losses, *as_sequence(text))
        found.append((losses, adaptation.gate.weights, adaptation.counts.columns(), mixture.fixed.weights))
    for one, other in zip(*found, strict=True):
        assert (one == other).all()


def test_a_table_goes_through_its_columns(kernels: Any):
    table = table_of(kernels, drawn(500))
    again = CountTable.of_columns(kernels, 4, table.columns(), V)
    assert again.n_nodes == table.n_nodes
    fields = [PARENT, SYMBOL, COUNT, TOTAL, CHILD, SIBLING]
    assert (again.nodes[:, fields] == table.nodes[: table.n_nodes, fields]).all()
    one, other = (Mixture(t, V) for t in (table, again))
    losses = [np.full(99, 2.0) for _ in range(2)]
    for mixture, of_mixture in zip((one, other), losses, strict=True):
        mixture.mix_texts(of_mixture, *as_sequence(drawn(100, 5)))
    assert (losses[0] == losses[1]).all()
    assert (losses[0] != 2).all()


def test_an_empty_table_goes_through_its_columns(kernels: Any):
    again = CountTable.of_columns(kernels, 4, CountTable(kernels, 4, 1000).columns(), V)
    assert again.n_nodes == 1


def change(row: int, place: int, value: int) -> Callable[[Any], None]:
    def changed(columns: Any) -> None:
        columns[row, place] = value

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(0, 5, 6), "before its parent"),
        (change(0, 0, 1), "before its parent"),
        (change(0, 5, -1), "before its parent"),
        (change(1, 3, V), "symbol that does not exist"),
        (change(1, 3, -1), "symbol that does not exist"),
        (change(2, 3, 0), "no count"),
        (change(2, 0, RARELY), "the counts of a context are"),
        (lambda columns: columns.__setitem__((slice(2), -1), columns[:2, -2]), "a node twice"),
        (lambda columns: columns.__setitem__(0, np.arange(columns.shape[1])), "of more than 4"),
    ],
)  # fmt: skip
def test_damaged_columns_are_refused(kernels: Any, damage: Callable[[Any], None], message: str):
    columns = table_of(kernels, drawn(500)).columns()
    damage(columns)
    with pytest.raises(ValueError, match=message):
        CountTable.of_columns(kernels, 4, columns, V)


def test_the_clock_never_overflows(kernels: Any):
    table, contexts = table_of(kernels, drawn(100)), np.zeros(5, np.int32)
    table.numbers[CLOCK] = LARGEST - AT_ONCE
    table.count(*as_sequence(drawn(50)), contexts)
    assert table.numbers[CLOCK] == 49
    assert table.nodes[: table.n_nodes, SEEN].max() == 49


def test_counts_lower_the_losses_of_a_text_like_theirs(kernels: Any):
    """An adaptation lowers them more; the mixture stays as it was."""
    mixture, text = mixture_of(kernels), drawn(600, 6)
    fixed, adapted = np.full(599, math.log(V)), np.full(599, math.log(V))
    before = mixture.fixed.weights.copy(), mixture.learning.weights.copy(), mixture.table.columns()
    mixture.mix_texts(fixed, *as_sequence(text))
    Adaptation(mixture, 100_000).mix(adapted, *as_sequence(text))
    assert adapted.mean() < fixed.mean() - 0.05 < math.log(V) - 1
    after = mixture.fixed.weights, mixture.learning.weights, mixture.table.columns()
    for one, other in zip(before, after, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("cuts", [[0, 1, 2, 599], [0, 300, 599]])
def test_an_adaptation_reads_in_pieces(kernels: Any, cuts: list[int]):
    mixture, (inputs, targets, starts) = mixture_of(kernels), as_sequence(drawn(600, 7))
    whole, parts = np.full(599, 2.0), np.full(599, 2.0)
    Adaptation(mixture, 10_000).mix(whole, inputs, targets, starts)
    adaptation = Adaptation(mixture, 10_000)
    for begin, end in itertools.pairwise(cuts):
        adaptation.mix(parts[begin:end], inputs[begin:end], targets[begin:end], starts[begin:end])
    assert (whole == parts).all()


def test_no_loss_of_an_adaptation_knows_what_follows(kernels: Any):
    mixture, found = mixture_of(kernels), []
    for symbol in (0, 1):
        text = drawn(300, 8)
        text[200] = symbol
        losses = np.full(299, 2.0)
        Adaptation(mixture, 10_000).mix(losses, *as_sequence(text))
        found.append(losses)
    assert (found[0][:199] == found[1][:199]).all()
    assert (found[0][199:] != found[1][199:]).any()


@pytest.mark.parametrize("compiled", ["c", "numba"])
def test_a_hostile_text_is_not_much_slower(compiled: str):
    """What pruning goes through is bounded by the nodes that it makes room for."""
    require_backend(compiled)
    n = 30_000
    table = CountTable(get_backend(compiled), 6, 200_000)
    pruned = 0
    prune = table.prune

    def counting(most: int) -> Any:
        nonlocal pruned
        pruned += table.n_nodes
        return prune(most)

    table.prune = counting  # type: ignore[method-assign]
    text = np.random.default_rng(0).integers(0, 50_000, n).astype(np.int32)
    table.count(*as_sequence(text), table.new_contexts())
    assert 0 < pruned < 5 * 7 * n
