"""Named arrays in one flat buffer.

A layout is an ordered table of (name, shape). It says where each array lies in a flat vector. The
network, the model file and the reference read it; the compiled kernels follow the same order, in
``csrc/views.h`` and in the ``_of`` functions of ``backends/numba.py``. A parameter's *shape* is
the public one, PyTorch's; an entry that is stored transposed lies in the buffer the other way round,
which its view hides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

#: The widest panel of a packed matrix, and the rows that are packed at a time of a long one (FR_BLOCK).
PANEL, BLOCK = 32, 256


@dataclass(frozen=True)
class Entry:
    """One named array: its public shape, and whether it is stored transposed."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Layout:
    """An ordered table of named arrays that share one flat buffer."""

    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """The number of elements of the flat buffer."""
        return sum(math.prod(entry.shape) for entry in self.entries)

    def stored(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Views of the buffer by name, as the kernels see them: C-contiguous, some of them transposed."""
        views, start = {}, 0
        for entry in self.entries:
            shape = entry.shape[::-1] if entry.transposed else entry.shape
            stop = start + math.prod(shape)
            views[entry.name] = flat[start:stop].reshape(shape)
            start = stop
        return views

    def views(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Writable views of the buffer by name, with the public shapes."""
        stored = self.stored(flat)
        return {e.name: stored[e.name].T if e.transposed else stored[e.name] for e in self.entries}


@lru_cache(maxsize=64)
def parameter_layout(V: int, H: int) -> Layout:
    """The parameters of a network of one vanilla recurrent layer of H units over V symbols.

    The input's weight is stored transposed, so that the product with a one-hot input reads one row.
    """
    return Layout(
        (
            Entry("weight_ih_l0", (H, V), transposed=True),
            Entry("weight_hh_l0", (H, H)),
            Entry("bias_l0", (H,)),
            Entry("head.weight", (V, H)),
            Entry("head.bias", (V,)),
        )
    )


def packed_layout(V: int, H: int) -> tuple[Entry, ...]:
    """The weights packed as right operands of products: those of the forward pass, then of the backward."""
    H32, V32 = (-(-size // PANEL) * PANEL for size in (H, V))
    return (
        Entry("packed_hh_t", (H, H32)),
        Entry("packed_head_t", (H, V32)),
        Entry("packed_hh", (H, H32)),
        Entry("packed_head", (V, H32)),
    )


@lru_cache(maxsize=64)
def prepared_layout(V: int, H: int) -> Layout:
    """What a network's single steps read beside its parameters."""
    return Layout(packed_layout(V, H)[:2])


@lru_cache(maxsize=64)
def workspace_layout(T: int, B: int, V: int, H: int, parts: int = 1) -> Layout:
    """What the kernels keep of a window of T steps and B rows, which so many threads work on.

    ``h`` begins with the state before the window. The rows of a packed matrix are filled up to panels, and
    each thread has room for a block of one.
    """
    H32 = -(-H // PANEL) * PANEL
    return Layout(
        (
            *packed_layout(V, H),
            Entry("block", (parts, BLOCK, H32)),
            Entry("h", (T + 1, B, H)),
            Entry("dh", (T, B, H)),
            Entry("logits", (T, B, V)),
            Entry("running", (B, H)),
            Entry("zeros", (H,)),
        )
    )


def forward_layout(T: int, B: int, V: int, H: int) -> Layout:
    """What the kernels keep of a window that is only run forward: of a few steps at a time."""
    return workspace_layout(min(T, -(-BLOCK // B)), B, V, H)
