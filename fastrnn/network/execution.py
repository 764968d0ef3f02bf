"""Runs a network: it calls kernels in short calls, in several threads, with workspaces that are reused.

T time steps · B batch rows · V vocabulary · H hidden units · L layers · Z arrays of a state
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.backends.backend import Backend
from fastrnn.core import checks, memory
from fastrnn.core.constants import MAX_NR, TINY
from fastrnn.core.layout import Layout, Shape, parameter_layout
from fastrnn.core.plan import ALONE, Plan, Split, forward_plan, step_plan, window_plan
from fastrnn.core.thread_team import Team, usable_cores

Array = NDArray[Any]

#: A state: h (L, B, H), or for the LSTM the pair (h, c).
State = Array | tuple[Array, Array]
StateLike = ArrayLike | tuple[ArrayLike, ArrayLike]

#: The fewest floating-point operations of a thread; for fewer, another thread saves no time.
MIN_WORK = 1 << 23

#: The fewest batch rows of a thread; with fewer, the multipliers wait for earlier results.
MIN_ROWS = 4

#: The fewest floating-point operations of a thread in a step of a layer, if threads share columns. They wait
#: for each other after each step; with fewer operations this costs more than it saves.
MIN_STEP_WORK = 1 << 18

#: So many steps that every thread has enough to do.
MANY_STEPS = 1 << 32

#: The fewest columns of a thread: a whole panel.
MIN_COLUMNS = MAX_NR

#: The largest number of threads: more than a machine has cores.
MAX_THREADS = 1024

#: The floating-point operations of a native call that samples: well under a tenth of a second.
SHORT_CALL_OPERATIONS = 1 << 26

#: Up to this number of symbols, a window is copied without a check of memory, because the copies are small.
SMALL_WINDOW = 1 << 16

#: Bytes of a symbol's input, target and start.
SYMBOL_BYTES = 4 + 4 + 1


@dataclass(frozen=True)
class Cost:
    """The costs of a forward pass, in the time of so many floating-point operations of products.

    ``call`` is the most that a native call may cost, so that it lasts well under 0.1 seconds. ``layer`` is
    about the fixed cost of a layer at each step, and ``element`` that of a gate or a logit besides products.
    """

    call: int
    layer: int
    element: int


#: The costs of compiled kernels, of compiled kernels whose fma is in software, and of NumPy's kernels.
COMPILED = Cost(call=1 << 32, layer=1 << 14, element=1 << 9)
WITHOUT_FMA = Cost(call=1 << 25, layer=1 << 8, element=1 << 5)
NUMPY = Cost(call=1 << 30, layer=1 << 20, element=1 << 9)


@dataclass
class Workspace:
    """A flat buffer for the kernels of a call, and a team of threads."""

    flat: Array
    team: Team


@dataclass(frozen=True)
class Prepared:
    """Weights that are packed for single steps of one row, and the memory that these steps need.

    Up to ``parts`` threads may share a step.
    """

    plan: Plan
    parts: int
    weights: Array
    scratch: Array
    logits: Array


class Execution(checks.Sealed):
    """The part of a network that calls kernels. Internal: the public part is `Network`, which extends it."""

    shape: Final[Shape]
    dtype: Final[np.dtype[Any]]
    backend: Final[Backend]
    layout: Final[Layout]
    _flat: Final[Array]

    def __init__(self, shape: Shape, dtype: np.dtype[Any], backend: Backend, threads: int | None) -> None:
        self.shape, self.dtype, self.backend = shape, dtype, backend
        self.threads = threads
        self.layout = parameter_layout(shape)
        memory.require(
            self.layout.size * dtype.itemsize, f"a network of hidden_size={shape.H} over {shape.V} symbols"
        )
        self._flat = memory.lasting(self.layout.size, dtype)
        self._idle_workspaces: list[Workspace] = []

    @property
    def threads(self) -> int:
        """The most threads that a call uses. It can be set, like the argument ``threads``."""
        return self._threads

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._threads = checked_threads(value)
        self._threads_asked = None if value is None else self._threads

    @property
    def threads_asked(self) -> int | None:
        """The value that ``threads`` was set to; ``None`` if the machine decides. Internal."""
        return self._threads_asked

    def run_losses(self, losses: Array, state: Array, inputs: Array, targets: Array, starts: Array) -> None:
        """Fill in the losses (T, B), and replace the state (Z, L, B, H). Internal.

        No other thread may write to the arrays.
        """
        T, B = losses.shape
        checks.buffer("losses", losses, checks.FLOAT64, (T, B))
        checks.buffer("state", state, self.dtype, (self.shape.Z, self.shape.L, B, self.shape.H))
        checks.window_buffers(inputs, targets, starts, (T, B))
        self._run_forward(self._losses, losses, state, inputs, targets, starts)

    def run_logits(self, logits: Array, state: Array, inputs: Array, starts: Array) -> None:
        """Fill in the logits (T, B, V), and replace the state (Z, L, B, H). Internal.

        No other thread may write to the arrays.
        """
        T, B = inputs.shape
        checks.buffer("logits", logits, self.dtype, (T, B, self.shape.V))
        checks.buffer("state", state, self.dtype, (self.shape.Z, self.shape.L, B, self.shape.H))
        checks.window_buffers(inputs, inputs, starts, (T, B))
        self._run_forward(self._logits, logits, state, inputs, starts)

    def _logits(
        self, part: int, parts: int, barrier: Array, plan: Plan, logits: Array, state: Array,
        workspace: Array, *window: Array,
    ) -> None:  # fmt: skip
        (inputs, starts), (T, B) = window, logits.shape[:2]
        self.backend.network_forward(
            logits=logits, state=state, workspace=workspace, barrier=barrier, params=self._flat,
            inputs=inputs, starts=starts, plan=plan.numbers, part=part, parts=parts, T=T, B=B,
        )  # fmt: skip

    def _losses(
        self, part: int, parts: int, barrier: Array, plan: Plan, losses: Array, state: Array,
        workspace: Array, *window: Array,
    ) -> None:  # fmt: skip
        (inputs, targets, starts), (T, B) = window, losses.shape
        self.backend.network_losses(
            losses=losses, state=state, workspace=workspace, barrier=barrier, params=self._flat,
            inputs=inputs, targets=targets, starts=starts, plan=plan.numbers, part=part, parts=parts, T=T,
            B=B,
        )  # fmt: skip

    def _run_forward(self, run: Callable[..., None], out: Array, state: Array, *window: Array) -> None:
        """Do the forward pass of a window in short calls, and carry the state from call to call.

        ``run`` is `_logits` or `_losses`. It fills ``out`` (T, B, …) and replaces the state (Z, L, B, H). The
        arrays of the window are (T, B).
        """
        T, B = out.shape[:2]
        rows_at_once, steps_at_once = self.size_of_call(B)
        for row in range(0, B, rows_at_once):
            rows = slice(row, row + rows_at_once)
            for step in range(0, T, steps_at_once):
                piece = slice(step, step + steps_at_once), rows
                self._run_rows(run, out[piece], state[:, :, rows], *(array[piece] for array in window))

    def size_of_call(self, B: int) -> tuple[int, int]:
        """How many of B rows, and how many steps of these, one native call reads. Internal."""
        cost = self._cost()
        of_step, of_symbol = self.shape.L * cost.layer, self._cost_of_symbol(cost)
        rows = min(B, max(1, cost.call // of_symbol))
        return rows, max(1, cost.call // (of_step + rows * of_symbol))

    def lasts(self, T: int, B: int) -> bool:
        """Whether the gradients of a window take so long that the caller must react to Ctrl-C. Internal.

        It is false for NumPy, which divides no work and reacts to Ctrl-C anyway.
        """
        cost = self._cost()
        operations = 3 * T * (self.shape.L * cost.layer + B * self._cost_of_symbol(cost))
        return self.backend.description.shares_work and operations > cost.call

    def _cost(self) -> Cost:
        description = self.backend.description
        if description.fma:
            return COMPILED
        return WITHOUT_FMA if description.shares_work else NUMPY

    def _cost_of_symbol(self, cost: Cost) -> int:
        return self.shape.operations + cost.element * (
            self.shape.L * self.shape.G * self.shape.H + self.shape.V
        )

    def _run_rows(self, run: Callable[..., None], out: Array, state: Array, *window: Array) -> None:
        """Do one call of `_run_forward`. Threads take some of the rows each, or share columns."""
        T, B = out.shape[:2]
        split = self.split(T, B, passes=1)
        if split.by_columns:
            self._run_part_of_rows(run, slice(0, B), split, out, state, *window)
            return
        with self.workspace(0) as workspace:  # only its team is used; each part has its own workspace
            parts = workspace.team.at_most(split.parts)
            workspace.team.run(
                parts,
                lambda part: self._run_part_of_rows(
                    run, slice(B * part // parts, B * (part + 1) // parts), ALONE, out, state, *window
                ),
            )

    def _run_part_of_rows(
        self, run: Callable[..., None], rows: slice, split: Split, out: Array, state: Array, *window: Array
    ) -> None:
        """Do some rows of a window; the kernel needs them in contiguous arrays."""
        seen = out[:, rows], state[:, :, rows], *(array[:, rows] for array in window)
        some_out, some_state, *some_window = own = [np.ascontiguousarray(array) for array in seen]
        plan = forward_plan(self.shape, len(out), rows.stop - rows.start, split)
        with self.workspace(plan.size) as workspace:
            team = workspace.team
            parts = team.at_most(split.parts)
            team.run(
                parts,
                lambda part: run(
                    part, parts, team.barrier, plan, some_out, some_state, workspace.flat, *some_window
                ),
            )
        for array, copied in zip(seen[:2], own, strict=False):
            if copied is not array:
                array[...] = copied

    def prepare_steps(self) -> Prepared:
        """Pack the weights for single steps of one row. Internal."""
        split = self.split(MANY_STEPS, 1, passes=1)
        plan, size = step_plan(self.shape, 1, split)
        weights, scratch = memory.aligned(size, self.dtype), memory.aligned(plan.size, self.dtype)
        with self.workspace(0) as workspace:  # only its team is used
            parts = workspace.team.at_most(split.parts)
            workspace.team.run(
                parts,
                lambda part: self.backend.network_prepare(
                    prepared=weights, params=self._flat, plan=plan.numbers, part=part, parts=parts
                ),
            )
        return Prepared(plan, split.parts, weights, scratch, np.empty((1, self.shape.V), self.dtype))

    def out_of_range(self) -> ValueError:
        """The error if logits or a state are not finite; only parameters can cause this. Internal."""
        name, parameter = max(
            self.layout.views(self._flat).items(), key=lambda item: float(np.abs(item[1]).max())
        )
        return ValueError(
            "the model's parameters are out of range: its state or its logits overflow; "
            f"the largest element is {np.abs(parameter).max():.3g}, of {name}"
        )

    def split(self, T: int, B: int, passes: int = 3) -> Split:
        """How threads best share a window of T steps and B rows. Internal.

        ``passes`` counts the forward pass as one and the backward one as two. Threads share the batch rows if
        there are enough; else the columns of the recurrence's products, if these are large.
        """
        if not self.backend.description.shares_work:
            return ALONE
        H, most = self.shape.H, min(self.threads, passes * T * B * self.shape.operations // MIN_WORK)
        by_rows = min(most, B // MIN_ROWS)
        by_columns = min(most, 2 * B * self.shape.G * H * H // MIN_STEP_WORK, H // MIN_COLUMNS)
        return Split(by_columns, True) if by_columns > max(1, by_rows) else Split(max(1, by_rows))

    def checked_window(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        starts: ArrayLike | None,
        room: Callable[[int, int], int],
    ) -> tuple[Array, Array, Array]:
        """Return checked copies of inputs, targets and starts (T, B) for the kernels. Internal.

        ``room(T, B)`` is the bytes that the window needs besides its copies. If they do not fit into memory,
        the error is raised before the window is read.
        """
        ids, wanted = checks.id_array("inputs", inputs), checks.id_array("targets", targets)
        checks.same_shape("targets", wanted, ids.shape)
        flags = checks.flag_array("starts", starts, ids.shape)
        if ids.size > SMALL_WINDOW:
            T, B = ids.shape
            memory.require(ids.size * SYMBOL_BYTES + room(T, B), f"a window of {T} steps and {B} rows")
        V = self.shape.V
        window = (
            checks.private_copy("inputs", ids, np.int32, 0, V - 1),
            checks.private_copy("targets", wanted, np.int32, -1, V - 1),
            checks.private_flags("starts", flags, ids.shape),
        )
        # the copies, and not the arrays, which another thread may resize
        checks.window_buffers(*window, window[0].shape)
        return window

    def training_room(self, *, dropout: bool) -> Callable[[int, int], int]:
        """A function of T and B: the bytes that a window needs for forward and backward. Internal."""

        def room(T: int, B: int) -> int:
            plan = window_plan(self.shape, T, B, self.split(T, B), dropout=dropout)
            return 8 * T * B + self._state_bytes(B) + (plan.size + self.layout.size) * self.dtype.itemsize

        return room

    def _state_bytes(self, B: int) -> int:
        return self.shape.Z * self.shape.L * B * self.shape.H * self.dtype.itemsize

    def checked_state(self, state: StateLike | None, B: int) -> Array:
        """Return a copy of the state for the kernels, (Z, L, B, H); ``None`` is zeros. Internal."""
        shape = (self.shape.L, B, self.shape.H)
        if state is None:
            memory.require(self._state_bytes(B), f"a state of {B} rows")
            return np.zeros((self.shape.Z, *shape), self.dtype)
        if self.shape.Z == 1:
            return self._checked_part("state", state, shape)[np.newaxis]
        if not isinstance(state, tuple) or len(state) != 2:
            raise TypeError(f"state must be a pair (h, c) for the LSTM, and is {type(state).__name__}")
        names = "state[0], h,", "state[1], c,"
        return np.stack([self._checked_part(*named, shape) for named in zip(names, state, strict=True)])

    def _checked_part(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        """Return a copy of h or c (L, B, H)."""
        array = checks.as_array(name, value, "floats in an array (L, B, H)")
        if array.dtype.kind != "f":
            raise TypeError(f"{name} must be floating-point, and has dtype {array.dtype}")
        checks.same_shape(name, array, shape)
        memory.require(
            3 * array.size * self.dtype.itemsize, f"a state of {shape[1]} rows"
        )  # one for the copy, two for the checks
        with np.errstate(over="ignore"):
            carried = array.astype(self.dtype, order="C", copy=True)
        carried[np.abs(carried) < TINY[self.dtype.name]] = 0
        if not np.isfinite(carried).all():
            raise ValueError(f"{name} has NaN or infinite elements in {self.dtype}")
        return carried

    def public_state(self, state: Array) -> State:
        """The public form of a state (Z, L, B, H): h (L, B, H), or for the LSTM the pair (h, c). Internal."""
        return (state[0], state[1]) if self.shape.Z == 2 else state[0]

    @contextmanager
    def workspace(self, size: int) -> Iterator[Workspace]:
        """Borrow a workspace of at least ``size`` elements. Internal.

        Concurrent callers get different workspaces, so many threads may use one network. Later callers reuse
        them.
        """
        try:
            workspace = self._idle_workspaces.pop()
        except IndexError:
            workspace = Workspace(np.empty(0, self.dtype), Team())
        if workspace.flat.size < size:
            memory.require(size * self.dtype.itemsize, "the workspace of a window")
            workspace.flat = memory.aligned(size, self.dtype)
        try:
            yield workspace
        finally:
            self._idle_workspaces.append(workspace)


def checked_threads(value: Any) -> int:
    """Return a number of threads; ``None`` is one for each core that the process may use."""
    if value is None:
        return usable_cores()
    return checks.whole_number("threads", value, maximum=MAX_THREADS)
