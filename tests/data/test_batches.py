"""Sequences become rows and blocks: nothing is left out, and documents stay separate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import batches
from fastrnn.data.batches import Batch, BatchLayout, WindowReader, fit_window


class Ids:
    """A sequence of ids in an array, which counts how often it is read."""

    def __init__(self, ids: object) -> None:
        self.ids = np.asarray(ids, np.int32)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= len(self)
        self.reads += 1
        return self.ids[start:stop]


def layout_of(ids: object, batch_size: int, **settings) -> BatchLayout:
    return BatchLayout(Ids(ids), len(Ids(ids)) - 1, batch_size, **settings)


def whole(layout: BatchLayout) -> Batch:
    return layout.read(0, layout.n_steps)


@given(n=st.integers(2, 300), batch_size=st.integers(1, 40))
def test_rows_cover_every_transition_in_order(n: int, batch_size: int):
    batch_size = min(batch_size, n - 1)
    batch = whole(layout_of(range(n), batch_size))
    assert batch.inputs.shape == (-(-(n - 1) // batch_size), batch_size)
    np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
    np.testing.assert_array_equal(batch.inputs[1:], batch.targets[:-1])
    assert set(batch.inputs.ravel().tolist()) == set(range(n - 1))
    repeated = batch.inputs.size - (n - 1)
    assert 0 <= repeated < batch_size


@given(n=st.integers(2, 200), batch_size=st.integers(1, 7), carry=st.booleans(), data=st.data())
def test_any_steps_are_those_of_the_whole(n: int, batch_size: int, carry: bool, data: st.DataObject):
    ids = np.random.default_rng(n).integers(0, 5, n)
    layout = layout_of(ids, min(batch_size, n - 1), boundary_id=4, carry_state=carry)
    start = data.draw(st.integers(0, layout.n_steps - 1))
    stop = data.draw(st.integers(start + 1, layout.n_steps))
    part, expected = layout.read(start, stop), whole(layout)
    for name, dtype in (("inputs", np.int32), ("targets", np.int32), ("starts", np.uint8)):
        actual = getattr(part, name)
        np.testing.assert_array_equal(actual, getattr(expected, name)[start:stop])
        assert actual.flags.c_contiguous
        assert actual.dtype == dtype


def test_rows_start_at_their_first_step_unless_the_state_is_carried():
    np.testing.assert_array_equal(whole(layout_of(range(9), 2)).starts, [[1, 1], [0, 0], [0, 0], [0, 0]])
    assert not whole(layout_of(range(9), 2, carry_state=True)).starts.any()


def test_boundaries_start_rows():
    batch = whole(layout_of([2, 0, 1, 2, 2, 1, 2], 1, boundary_id=2))
    np.testing.assert_array_equal(batch.starts[:, 0], [1, 0, 0, 1, 1, 0])


@given(
    n=st.integers(2, 300),
    batch_size=st.integers(1, 5),
    seq_length=st.integers(1, 40),
    block_symbols=st.integers(1, 200),
)
def test_windows_of_blocks_are_those_of_the_whole(
    n: int, batch_size: int, seq_length: int, block_symbols: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BLOCK_SYMBOLS", block_symbols)
        patch.setattr(batches, "MIN_STEPS", 1)
        layout = layout_of(range(n), min(batch_size, n - 1))
        reader = WindowReader(layout, min(seq_length, layout.n_steps))
    T, batch = reader.seq_length, whole(layout)
    for window in range(2 * reader.windows):
        held, first, left = reader.at(window)
        assert held.inputs.size <= max(block_symbols, T * layout.batch_size)
        assert 5 * (held.inputs.size + layout.batch_size) <= reader.n_bytes
        begin = window % reader.windows * T
        np.testing.assert_array_equal(held.inputs[first * T : first * T + T], batch.inputs[begin : begin + T])
        assert left >= 1
        assert held.n_steps == layout.n_steps or first + left == held.windows(T)


def test_a_short_sequence_is_one_block_that_is_read_once():
    ids = Ids(range(1000))
    reader = WindowReader(BatchLayout(ids, 999, 9), 10)
    for window in range(100):
        _, first, left = reader.at(window)
        assert first == window % 12
        assert left > 10**9  # a native call reads the block again and again
    assert ids.reads == 9


def test_blocks_of_many_rows_are_long_enough_to_be_worth_reading():
    ids = Ids(np.zeros(4_000_001))
    held, _, left = WindowReader(BatchLayout(ids, 4_000_000, 1000), 64).at(0)
    assert (held.n_steps, left) == (1024, 16)


@pytest.mark.parametrize(
    ("transitions", "T", "B", "expected"),
    [
        (10_000, 64, 32, (64, 32)),
        (2048, 64, 32, (64, 32)),
        (2047, 64, 32, (64, 31)),
        (64, 64, 32, (64, 1)),
        (63, 64, 32, (63, 1)),
        (1, 64, 32, (1, 1)),
        (9, None, 32, (9, 1)),
    ],
)
def test_windows_shrink_to_fit(transitions: int, T: int | None, B: int, expected: tuple[int, int]):
    assert fit_window(transitions, T, B) == expected
