"""A recurrent network: parameters in one flat buffer, and the kernels of a backend.

T time steps · B batch rows · V vocabulary · H hidden units · L layers (one, so far)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastrnn import checks, memory
from fastrnn.backends import Backend, get_backend
from fastrnn.layout import Layout, forward_layout, parameter_layout, prepared_layout, workspace_layout
from fastrnn.threads import Team, usable_cores

Array = NDArray[Any]

CELLS = ("rnn",)

#: The floating-point operations that a thread should have to do before another is worth its while.
LEAST_WORK = 1 << 23

#: The batch rows that a thread should have: with fewer, the multipliers wait for each other's results.
LEAST_ROWS = 4

#: What is smaller in a state is zero, as the kernels have it (FR_TINY).
TINY = {"float32": 2.0**-60, "float64": 2.0**-500}

#: The floating-point operations of a native call that samples: well under a tenth of a second.
CALL_OPERATIONS = 1 << 26


def _draw_normal(rng: Any, shape: tuple[int, ...], H: int) -> Array:  # noqa: ARG001
    weights: Array = rng.standard_normal(shape) * 0.01
    return weights


def _draw_uniform(rng: Any, shape: tuple[int, ...], H: int) -> Array:
    weights: Array = (2 * rng.random(shape) - 1) / np.sqrt(H)
    return weights


def _draw_zeros(rng: Any, shape: tuple[int, ...], H: int) -> Array:  # noqa: ARG001
    return np.zeros(shape)


@dataclass
class Workspace:
    """What a call works in: a flat buffer for the kernels, and a team of threads."""

    flat: Array
    team: Team


#: How weights are drawn, by name.
INITIALIZATIONS: dict[str, Callable[[Any, tuple[int, ...], int], Array]] = {
    "normal": _draw_normal,
    "uniform": _draw_uniform,
    "zeros": _draw_zeros,
}


class Network:
    """A recurrent language model: one-hot input, one recurrent layer, linear head.

    Many threads may use one network at once, as long as none of them changes its parameters. Results do
    not depend on how many threads of its own it works with.

    Parameters
    ----------
    vocab_size
        V, the number of symbols.
    hidden_size
        H, the number of hidden units.
    cell
        ``"rnn"``: ``h_t = tanh(W_ih x_t + W_hh h_{t-1} + b)`` (Elman 1990).
    dtype
        ``"float32"`` or ``"float64"``, of the parameters and of the arithmetic.
    backend
        ``"auto"``, ``"numba"``, ``"c"`` or ``"numpy"``; see `fastrnn.backends.get_backend`.
    initialization
        ``"uniform"``: weights within ±1/√H, as PyTorch draws them. ``"normal"``: a deviation of 0.01.
        ``"zeros"``: for weights that are filled in later. Biases are zero. Weights are drawn in the
        order of `parameters`.
    threads
        The most threads that a call works with; ``None`` is as many cores as the process may use. A
        small window takes fewer. The ``"numpy"`` backend leaves threads to NumPy's BLAS.
    rng
        An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for fresh draws (SPEC 7).

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or of the wrong type.
    MemoryError
        The parameters cannot fit.
    fastrnn.BackendUnavailableError
        The backend cannot run here.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 128,
        *,
        cell: str = "rnn",
        dtype: DTypeLike = "float32",
        backend: str = "auto",
        initialization: str = "uniform",
        threads: int | None = None,
        rng: Any = None,
    ) -> None:
        self.vocab_size = checks.whole_number("vocab_size", vocab_size)
        self.hidden_size = checks.whole_number("hidden_size", hidden_size)
        self.cell = checks.one_of("cell", cell, CELLS)
        self.dtype = checks.real_dtype(dtype)
        self.backend: Backend = get_backend(backend)
        draw = INITIALIZATIONS[checks.one_of("initialization", initialization, INITIALIZATIONS)]
        self.threads = usable_cores() if threads is None else checks.whole_number("threads", threads)
        generator = checks.random_generator(rng)
        self.layout: Layout = parameter_layout(self.vocab_size, self.hidden_size)
        memory.require(
            self.layout.size * self.dtype.itemsize,
            f"a network of hidden_size={hidden_size} over {vocab_size} symbols",
        )
        self.flat: Array = np.zeros(self.layout.size, self.dtype)
        for view in self.parameters.values():
            if view.ndim == 2:
                view[...] = draw(generator, view.shape, self.hidden_size)
        self._idle_workspaces: list[Workspace] = []

    @property
    def parameters(self) -> dict[str, Array]:
        """Writable views by name, with PyTorch's names and shapes.

        ``weight_ih_l0 (H, V)``, ``weight_hh_l0 (H, H)``, ``bias_l0 (H)``, ``head.weight (V, H)`` and
        ``head.bias (V)``. They share one flat buffer, which the kernels read: writing to one changes
        the network.
        """
        return self.layout.views(self.flat)

    def forward(
        self, inputs: ArrayLike, state: ArrayLike | None = None, starts: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Run a window.

        Parameters
        ----------
        inputs
            Ids (T, B), from 0 to V - 1.
        state
            What the window continues from, (L, B, H); ``None`` is zeros. It is not changed.
        starts
            (T, B): 1 where a row begins anew, and its state is zero before that step; ``None`` is none.

        Returns
        -------
        logits, state
            (T, B, V), and the state after the window (L, B, H).

        Raises
        ------
        ValueError, TypeError
            An argument has the wrong shape, type or range.
        MemoryError
            The window cannot fit.
        """
        ids = checks.symbol_ids("inputs", inputs, lowest=0, V=self.vocab_size)
        flags = checks.start_flags(starts, ids.shape)
        carried = self.checked_state(state, ids.shape[1])
        T, B = ids.shape
        memory.require(T * B * self.vocab_size * self.dtype.itemsize, f"the logits of {T} steps and {B} rows")
        logits = np.empty((T, B, self.vocab_size), self.dtype)
        self._run_rows(self.backend.network_forward, logits, carried, ids, flags)
        return logits, carried

    def loss_and_gradients(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: ArrayLike | None = None,
        starts: ArrayLike | None = None,
    ) -> tuple[float, dict[str, Array], Array]:
        """Run a window forward and backward (truncated backpropagation through time).

        Parameters
        ----------
        inputs, state, starts
            As in `forward`.
        targets
            Ids (T, B); -1 where there is no loss.

        Returns
        -------
        loss, gradients, state
            The sum of the cross-entropies in nats; its gradients, by name and shape as in
            `parameters`; the state after the window (L, B, H).

        Raises
        ------
        ValueError, TypeError, MemoryError
            As in `forward`.
        """
        ids, wanted, flags = self.checked_window(inputs, targets, starts)
        carried = self.checked_state(state, ids.shape[1])
        T, B = ids.shape
        losses = np.empty((T, B))
        gradients = np.empty_like(self.flat)
        parts = self.parts(T, B)
        with self.workspace(workspace_layout(T, B, self.vocab_size, self.hidden_size, parts)) as workspace:
            team = workspace.team
            team.run(
                parts,
                lambda part: self.backend.network_gradients(
                    losses, gradients, carried[0], workspace.flat, team.sync, self.flat, ids, wanted, flags,
                    1.0, part, parts, T, B, self.vocab_size, self.hidden_size,
                ),
            )  # fmt: skip
        return float(losses.sum()), self.layout.views(gradients), carried

    def losses(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: ArrayLike | None = None,
        starts: ArrayLike | None = None,
    ) -> tuple[Array, Array]:
        """Return the loss of each target in nats, float64 (T, B), and the state after the window.

        Arguments and errors are those of `loss_and_gradients`.
        """
        ids, wanted, flags = self.checked_window(inputs, targets, starts)
        carried = self.checked_state(state, ids.shape[1])
        losses = np.empty(ids.shape)
        self.run_losses(losses, carried, ids, wanted, flags)
        return losses, carried

    def run_losses(self, losses: Array, state: Array, inputs: Array, targets: Array, starts: Array) -> None:
        """Fill in the losses (T, B), and replace the state (L, B, H); arguments are not checked. Internal."""
        self._run_rows(self.backend.network_losses, losses, state, inputs, targets, starts)

    def _run_rows(self, kernel: Callable[..., None], out: Array, state: Array, *window: Array) -> None:
        """Run a kernel that only goes forward, some of the rows in each thread.

        It fills ``out`` (T, B, …), and replaces the state (L, B, H); a window's arrays are (T, B).
        """
        T, B = out.shape[:2]
        parts = self.parts(T, B, passes=1)

        def run_part(part: int) -> None:
            rows = slice(B * part // parts, B * (part + 1) // parts)
            some_out, some_state, *some_window = (
                np.ascontiguousarray(array[:, rows]) for array in (out, state, *window)
            )
            sizes = (T, rows.stop - rows.start, self.vocab_size, self.hidden_size)
            with self.workspace(forward_layout(*sizes)) as workspace:
                kernel(some_out, some_state[0], workspace.flat, self.flat, *some_window, *sizes)
            if parts > 1:
                out[:, rows], state[:, rows] = some_out, some_state

        with self.workspace(Layout(())) as workspace:  # for its team; each part has one of its own
            workspace.team.run(parts, run_part)

    def sample(
        self, n: int, symbol: int, state: Array, *, temperature: float, rng: Any, last: int | None = None
    ) -> Array:
        """Draw n ids one after the other. Internal.

        The first follows ``symbol`` and the state (L, 1, H), which is carried along; the ids (n) end early
        after ``last``. Each takes one uniform draw.
        """
        V, H = self.vocab_size, self.hidden_size
        uniforms = rng.random(n)
        symbols = np.empty(n, np.int32)
        prepared = memory.aligned(prepared_layout(V, H).size, self.dtype)
        self.backend.network_prepare(prepared, self.flat, V, H)
        scratch, logits = np.empty((2, 1, H), self.dtype), np.empty((1, V), self.dtype)
        never, at_once = np.zeros(1, np.uint8), max(1, CALL_OPERATIONS // (2 * H * (H + V)))
        for start in range(0, n, at_once):
            some = slice(start, start + at_once)
            drawn = symbols[some]
            self.backend.sample(
                drawn, state[0], scratch, logits, prepared, self.flat, uniforms[some], never,
                temperature, symbol, -1 if last is None else last, len(drawn), V, H,
            )  # fmt: skip
            ends = np.flatnonzero(drawn == last)
            if ends.size:
                return symbols[: start + int(ends[0]) + 1]
            symbol = int(drawn[-1])
        return symbols

    def parts(self, T: int, B: int, passes: int = 3) -> int:
        """How many threads a window of T steps and B rows is worth. Internal.

        ``passes`` counts the forward pass as one and the backward one as two.
        """
        if not self.backend.description.shares_work:
            return 1
        operations = 2 * passes * T * B * self.hidden_size * (self.hidden_size + self.vocab_size)
        return max(1, min(self.threads, B // LEAST_ROWS, operations // LEAST_WORK))

    def checked_window(
        self, inputs: ArrayLike, targets: ArrayLike, starts: ArrayLike | None
    ) -> tuple[Array, Array, Array]:
        """Return inputs, targets and starts (T, B) as the kernels want them, or raise. Internal."""
        ids = checks.symbol_ids("inputs", inputs, lowest=0, V=self.vocab_size)
        wanted = checks.symbol_ids("targets", targets, lowest=-1, V=self.vocab_size)
        checks.same_shape("targets", wanted, ids.shape)
        return ids, wanted, checks.start_flags(starts, ids.shape)

    def checked_state(self, state: ArrayLike | None, B: int) -> Array:
        """Return a copy of the state (L, B, H) in the network's dtype; ``None`` is zeros. Internal."""
        shape = (1, B, self.hidden_size)
        if state is None:
            return np.zeros(shape, self.dtype)
        array = checks.as_array("state", state, "floats in an array (L, B, H)")
        if array.dtype.kind != "f":
            raise TypeError(f"state must be floating-point, and has dtype {array.dtype}")
        checks.same_shape("state", array, shape)
        with np.errstate(over="ignore"):
            carried = array.astype(self.dtype, order="C", copy=True)
        carried[np.abs(carried) < TINY[self.dtype.name]] = 0
        if not np.isfinite(carried).all():
            raise ValueError(f"state has NaN or infinite elements in {self.dtype}")
        return carried

    @contextmanager
    def workspace(self, layout: Layout) -> Iterator[Workspace]:
        """Check out a workspace with room for a layout. Internal.

        Each concurrent caller has its own, so one network serves many threads; what they leave behind is
        kept for the next ones.
        """
        try:
            workspace = self._idle_workspaces.pop()
        except IndexError:
            workspace = Workspace(np.empty(0, self.dtype), Team())
        if workspace.flat.size < layout.size:
            memory.require(layout.size * self.dtype.itemsize, "what a window needs to be worked on")
            workspace.flat = memory.aligned(layout.size, self.dtype)
        try:
            yield workspace
        finally:
            self._idle_workspaces.append(workspace)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_idle_workspaces": []}

    def __repr__(self) -> str:
        return (
            f"Network(vocab_size={self.vocab_size}, hidden_size={self.hidden_size}, cell={self.cell!r}, "
            f"dtype={self.dtype.name!r}, backend={self.backend.name!r}): {self.layout.size:,} parameters"
        )
