"""Named views of one flat buffer."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import torch_class

from fastrnn.core import plan
from fastrnn.core.constants import (
    CELL_NAMES,
    EMBEDDING_WEIGHT,
    HEAD_BIAS,
    HEAD_STEPS,
    HEAD_WEIGHT,
    IH_T,
    LAYER,
    LAYER_PLAN,
    MAX_NR,
    PLAN,
    PLAN_OF_LAYER,
    TIED,
)
from fastrnn.core.layout import Entry, Layout, Shape, parameter_layout
from fastrnn.core.plan import Split, forward_plan, step_plan, window_plan

LAYOUT = Layout((Entry("a", (2, 3), transposed=True), Entry("b", (4,))))


def test_views_cover_the_buffer_once_and_in_order():
    flat = np.arange(LAYOUT.size)
    views = LAYOUT.views(flat)
    assert LAYOUT.size == 10
    np.testing.assert_array_equal(views["a"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(views["b"], [6, 7, 8, 9])


def test_views_write_through():
    flat = np.zeros(10)
    LAYOUT.views(flat)["a"][1, 2] = 7
    assert flat[5] == 7


SHAPES = [
    Shape(kind, L, 7, E, 5, tied)
    for kind in CELL_NAMES
    for L in (1, 2, 3)
    for E, tied in ((0, False), (3, False), (5, True))
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_stored_arrays_are_contiguous(shape: Shape):
    layout = parameter_layout(shape)
    stored = layout.stored(np.zeros(layout.size))
    assert all(array.flags.c_contiguous for array in stored.values())
    assert sum(array.size for array in stored.values()) == layout.size


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parameters_are_pytorch_s(shape: Shape):
    """Names and shapes are PyTorch's. There is one bias instead of two, except for the GRU's new gate."""
    torch = pytest.importorskip("torch")
    kind = torch_class(torch, shape.cell)
    expected = {
        name: tuple(value.shape)
        for name, value in kind(shape.E or shape.V, shape.H, shape.L).named_parameters()
        if not name.startswith("bias_hh")
    }
    expected = {name.replace("bias_ih", "bias"): size for name, size in expected.items()}
    expected |= {"head.bias": (7,), **({} if shape.tied else {"head.weight": (7, 5)})}
    expected |= {"embedding.weight": (7, shape.E)} if shape.E else {}
    expected |= {f"bias_hn_l{layer}": (5,) for layer in range(shape.L) if shape.kind == "gru"}
    found = parameter_layout(shape)
    assert {entry.name: entry.shape for entry in found.entries} == expected
    assert {name: view.shape for name, view in found.views(np.zeros(found.size)).items()} == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_place_of_a_plan_is_within_its_workspace(shape: Shape):
    for found in (
        window_plan(shape, 6, 4, Split(2), dropout=True),
        window_plan(shape, 6, 4, Split(3, by_columns=True)),
        window_plan(shape, 6, 4, Split(2)),
        forward_plan(shape, 6, 4),
        step_plan(shape, 4)[0],
    ):
        parameters = found.numbers[EMBEDDING_WEIGHT : HEAD_BIAS + 1]
        scratch = found.numbers[HEAD_BIAS + 1 : LAYER]
        layers = found.numbers[LAYER:].reshape(shape.L, LAYER_PLAN)
        assert (parameters < parameter_layout(shape).size).all()
        assert (layers[:, :IH_T] < parameter_layout(shape).size).all()
        most = found.size + step_plan(shape, 4)[1]
        assert (scratch <= most).all()
        assert (layers[:, IH_T:] <= most).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_absent_array_has_the_place_minus_one(shape: Shape):
    numbers = window_plan(shape, 6, 4).numbers
    layers = numbers[LAYER:].reshape(shape.L, LAYER_PLAN)
    absent = {PLAN[field] for field in np.flatnonzero(numbers[:LAYER] < 0)}
    expected = set() if shape.E else {"embedding_weight", "x", "dx"}
    assert absent == expected | (set() if shape.kind == "lstm" else {"dc"})
    for layer, row in enumerate(layers):
        absent = {PLAN_OF_LAYER[field] for field in np.flatnonzero(row < 0)}
        expected = {"aux"} if shape.G == 1 else set()
        expected |= set() if shape.kind == "gru" else {"bias_hn"}
        assert absent == expected | (set() if layer or shape.E else {"ih", "ih_t"})
    assert numbers.min() >= plan.ABSENT


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_plan_says_whether_the_head_s_weight_is_the_embedding_s(shape: Shape):
    numbers = window_plan(shape, 6, 4).numbers
    assert bool(numbers[TIED]) == shape.tied == (numbers[HEAD_WEIGHT] == numbers[EMBEDDING_WEIGHT])


def test_an_unknown_number_of_logits_is_held_a_block_at_a_time():
    """With a vocabulary of 50,000, the logits in memory are at most MAX_LOGITS elements."""
    small, large = (Shape("gru", 1, V, 16, 16, tied=True) for V in (100, 50_000))
    T, B = 200, 20
    assert window_plan(small, T, B).numbers[HEAD_STEPS] == T
    steps = int(window_plan(large, T, B).numbers[HEAD_STEPS])
    assert 1 <= steps < T
    assert steps * B * large.V <= plan.MAX_LOGITS
    packed = 2 * large.V * MAX_NR
    assert window_plan(large, T, B).size < plan.MAX_LOGITS + packed + 2_000_000
    assert window_plan(large, 1000 * T, 1).size < plan.MAX_LOGITS + packed + 1000 * T * 16 * 16
