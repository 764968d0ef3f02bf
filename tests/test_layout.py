"""Named views of one flat buffer."""

from __future__ import annotations

import numpy as np

from fastrnn.layout import Entry, Layout, parameter_layout, workspace_layout

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


def test_stored_arrays_are_contiguous():
    for layout in (parameter_layout(7, 5), workspace_layout(3, 2, 7, 5)):
        stored = layout.stored(np.zeros(layout.size))
        assert all(array.flags.c_contiguous for array in stored.values())
        assert sum(array.size for array in stored.values()) == layout.size
