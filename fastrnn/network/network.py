"""A recurrent network: parameters in one flat buffer, and the kernels of a backend.

T time steps · B batch rows · V vocabulary · E elements of an embedding · H hidden units · L layers · G gates
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastrnn.backends.backend import Backend
from fastrnn.backends.registry import get_backend
from fastrnn.core import checks, memory
from fastrnn.core.layout import (
    GATES,
    Layout,
    Plan,
    Shape,
    forward_plan,
    parameter_layout,
    step_plan,
    window_plan,
)
from fastrnn.core.thread_team import Team, usable_cores
from fastrnn.network.initialization import check_initialization, initialize
from fastrnn.network.torch_state import from_torch_state_dict, to_torch_state_dict

Array = NDArray[Any]

#: A state: h (L, B, H), or for the LSTM the pair of h and c.
State = Array | tuple[Array, Array]
StateLike = ArrayLike | tuple[ArrayLike, ArrayLike]

CELLS = tuple(GATES)
ACTIVATIONS = ("tanh", "relu")

#: The largest number of layers: more than anyone trains, and few enough to name.
MOST_LAYERS = 1000

#: The largest number of symbols: an id is an int32.
MOST_SYMBOLS = (1 << 31) - 1

#: The largest number of threads: more than a machine has cores.
MOST_THREADS = 1024

#: The floating-point operations that a thread should have to do before another is worth its while.
LEAST_WORK = 1 << 23

#: The batch rows that a thread should have: with fewer, the multipliers wait for each other's results.
LEAST_ROWS = 4

#: What is smaller in a state is zero, as the kernels have it (FR_TINY).
TINY = {"float32": 2.0**-60, "float64": 2.0**-500}

#: The floating-point operations of a native call that samples: well under a tenth of a second.
CALL_OPERATIONS = 1 << 26

#: The symbols of a window that is not asked about in advance: what it is copied to is small.
SMALL_WINDOW = 1 << 16

#: Bytes of a symbol's input, target and start.
SYMBOL_BYTES = 4 + 4 + 1


@dataclass(frozen=True)
class Cost:
    """What a native call that only goes forward may cost, in floating-point operations of products.

    In the same measure, about: what a layer costs at each step whatever its size, and what a gate or a logit
    costs beside the products. They are taken so that a call lasts well under a tenth of a second.
    """

    call: int
    layer: int
    element: int


#: The costs of compiled kernels, of those that have fused multiply-adds from software, and of NumPy's.
COMPILED = Cost(call=1 << 32, layer=1 << 14, element=1 << 9)
WITHOUT_FMA = Cost(call=1 << 25, layer=1 << 8, element=1 << 5)
NUMPY = Cost(call=1 << 30, layer=1 << 20, element=1 << 9)


@dataclass
class Workspace:
    """What a call works in: a flat buffer for the kernels, and a team of threads."""

    flat: Array
    team: Team


@dataclass(frozen=True)
class Prepared:
    """Weights that are packed for single steps of one row, and what these steps are worked on in."""

    plan: Plan
    weights: Array
    scratch: Array
    logits: Array


class Network(checks.Sealed):
    """A recurrent language model: one-hot input or embedding, layers of one cell, linear head.

    Many threads may use one network at once, as long as none of them changes its parameters. Results do
    not depend on how many threads of its own it works with.

    Parameters
    ----------
    vocab_size
        V, the number of symbols.
    hidden_size
        H, the number of hidden units of a layer.
    cell
        ``"rnn"``: ``h_t = f(W_ih x_t + W_hh h_{t-1} + b)`` (Elman 1990). ``"gru"`` (Cho et al. 2014) and
        ``"lstm"`` (Hochreiter & Schmidhuber 1997; Gers et al. 2000) have PyTorch's equations.
    activation
        f of the ``"rnn"``: ``"tanh"`` or ``"relu"`` (Le, Jaitly & Hinton 2015).
    num_layers
        L; each layer takes in what the one below hands up.
    embedding_size
        E, the size of an embedding of the input; ``None`` is a one-hot input.
    tied
        Whether the head's weight is the embedding's (Press & Wolf 2017), which needs E = H.
    dropout
        The part of what each layer hands up, the last one to the head, that is dropped while training, from
        0 to below 1 (Srivastava et al. 2014; Zaremba et al. 2014). In `forward` and `losses` nothing is.
    dtype
        ``"float32"`` or ``"float64"``, of the parameters and of the arithmetic.
    backend
        ``"auto"``, ``"c"``, ``"numba"`` or ``"numpy"``; see `fastrnn.backends.get_backend`.
    initialization
        How weights are drawn, in the order of `parameters`. ``"orthogonal"``: each gate's recurrent matrix is
        orthogonal (Saxe, McClelland & Ganguli 2014), the others are uniform as Glorot & Bengio (2010) have
        it. ``"identity"``: each gate's recurrent matrix is the identity (Le, Jaitly & Hinton 2015).
        ``"uniform"``: everything within ±1/√H, as PyTorch draws recurrent layers, or within ±0.08 with
        ``"uniform(0.08)"``.
        ``"normal"``: weights with a deviation of 0.01, or ``"normal(0.1)"`` of 0.1. ``"zeros"``: for weights
        that are filled in later. Biases are zero unless it is said; that of an LSTM's forget gate is 1
        (Jozefowicz, Zaremba & Sutskever 2015). ``None`` is orthogonal, and for the relu identity.
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

    shape: Final[Shape]
    dtype: Final[np.dtype[Any]]
    backend: Final[Backend]
    layout: Final[Layout]
    _flat: Final[Array]
    _dropout: Final[float]

    _instead: ClassVar[dict[str, str]] = {
        "parameters": "write into them, network.parameters[name][...] = values"
    }

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 128,
        *,
        cell: str = "rnn",
        activation: str = "tanh",
        num_layers: int = 1,
        embedding_size: int | None = None,
        tied: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = "float32",
        backend: str = "auto",
        initialization: str | None = None,
        threads: int | None = None,
        rng: Any = None,
    ) -> None:
        self.shape = checked_shape(
            vocab_size, hidden_size, cell, activation, num_layers, embedding_size, tied
        )
        self._dropout = checks.part_of_one("dropout", dropout, zero=True)
        self.dtype = checks.real_dtype(dtype)
        self.backend = get_backend(backend)
        if initialization is None:
            initialization = "identity" if self.activation == "relu" else "orthogonal"
        initialization = check_initialization(initialization)
        self.threads = threads
        generator = checks.random_generator(rng)
        self.layout = parameter_layout(self.shape)
        memory.require(
            self.layout.size * self.dtype.itemsize,
            f"a network of hidden_size={self.hidden_size} over {self.vocab_size} symbols",
        )
        self._flat = memory.lasting(self.layout.size, self.dtype)
        initialize(
            self.parameters, initialization, cell=self.cell, hidden_size=self.hidden_size, rng=generator
        )
        self._idle_workspaces: list[Workspace] = []

    @property
    def vocab_size(self) -> int:
        """V, the number of symbols."""
        return self.shape.V

    @property
    def hidden_size(self) -> int:
        """H, the number of hidden units of a layer."""
        return self.shape.H

    @property
    def num_layers(self) -> int:
        """L, the number of layers."""
        return self.shape.L

    @property
    def embedding_size(self) -> int | None:
        """E, the size of the embedding; ``None`` where the input is one-hot."""
        return self.shape.E or None

    @property
    def tied(self) -> bool:
        """Whether the head's weight is the embedding's."""
        return self.shape.tied

    @property
    def dropout(self) -> float:
        """The part of what each layer hands up that is dropped while training."""
        return self._dropout

    @property
    def threads(self) -> int:
        """The most threads that a call works with; it may be set, as the argument of that name."""
        return self._threads

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._threads = checked_threads(value)
        self._threads_asked = None if value is None else self._threads

    @property
    def threads_asked(self) -> int | None:
        """What ``threads`` was given as: ``None`` where it is left to the machine. Internal."""
        return self._threads_asked

    @property
    def cell(self) -> str:
        """``"rnn"``, ``"gru"`` or ``"lstm"``."""
        return self.shape.cell

    @property
    def activation(self) -> str:
        """``"tanh"`` or, of an rnn, ``"relu"``."""
        return "relu" if self.shape.kind == "rnn_relu" else "tanh"

    @property
    def flat(self) -> Array:
        """All parameters in one vector, a writable view of what the kernels read."""
        return self._flat[:]

    @flat.setter
    def flat(self, value: Array) -> None:
        """Allow ``network.flat *= 2``, which writes into the vector and then sets it to itself."""
        if type(value) is not np.ndarray or value.__array_interface__ != self._flat.__array_interface__:
            raise AttributeError("flat of a Network cannot be set: write into it, network.flat[...] = values")

    @property
    def parameters(self) -> dict[str, Array]:
        """Writable views by name, with PyTorch's names and shapes.

        ``embedding.weight (V, E)``, where there is one; of each layer, from ``l0`` on, ``weight_ih_l0
        (G·H, V)``, ``(G·H, E)`` or ``(G·H, H)``, ``weight_hh_l0 (G·H, H)``, ``bias_l0 (G·H)`` and, for the
        GRU, ``bias_hn_l0 (H)``; ``head.weight (V, H)``, unless it is tied, and ``head.bias (V)``. G is 1 for
        the rnn, 3 for the gru (r, z, n), 4 for the lstm (i, f, g, o). They share one flat buffer, which the
        kernels read: writing to one changes the network.
        """
        return self.layout.views(self._flat)

    def forward(
        self, inputs: ArrayLike, state: StateLike | None = None, starts: ArrayLike | None = None
    ) -> tuple[Array, State]:
        """Run a window.

        Parameters
        ----------
        inputs
            Ids (T, B), from 0 to V - 1.
        state
            What the window continues from, h (L, B, H), for the LSTM the pair (h, c); ``None`` is zeros. It
            is not changed.
        starts
            (T, B): 1 where a row begins anew, and its state is zero before that step; ``None`` is none.

        Returns
        -------
        logits, state
            (T, B, V), and the state after the window, as ``state``. Only a relu's state can grow without
            bounds, to infinity and then NaN.

        Raises
        ------
        ValueError, TypeError
            An argument has the wrong shape, type or range.
        MemoryError
            The window cannot fit.
        """
        ids = checks.id_array("inputs", inputs)
        flags = checks.flag_array("starts", starts, ids.shape)
        T, B = ids.shape
        logits_of_symbol = self.shape.V * self.dtype.itemsize
        memory.require(
            T * B * (SYMBOL_BYTES + logits_of_symbol) + self._state_bytes(B),
            f"the logits of {T} steps and {B} rows",
        )
        ids = checks.private_copy("inputs", ids, np.int32, 0, self.shape.V - 1)
        marks = checks.private_flags("starts", flags, ids.shape)
        carried = self.checked_state(state, B)
        logits = np.empty((T, B, self.shape.V), self.dtype)
        self._run_forward(self.backend.network_forward, logits, carried, ids, marks)
        return logits, self.public_state(carried)

    def loss_and_gradients(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: StateLike | None = None,
        starts: ArrayLike | None = None,
        dropout_key: int | None = None,
    ) -> tuple[float, dict[str, Array], State]:
        """Run a window forward and backward (truncated backpropagation through time).

        Parameters
        ----------
        inputs, state, starts
            As in `forward`.
        targets
            Ids (T, B); -1 where there is no loss.
        dropout_key
            From 0 to 2⁶³ - 1: the same key drops the same elements. ``None`` drops none.

        Returns
        -------
        loss, gradients, state
            The sum of the cross-entropies in nats; its gradients, by name and shape as in
            `parameters`; the state after the window, as in `forward`.

        Raises
        ------
        ValueError, TypeError, MemoryError
            As in `forward`.
        """
        key = 0 if dropout_key is None else checked_key("dropout_key", dropout_key)
        rate = 0.0 if dropout_key is None else self.dropout
        room = self.training_room(dropout=rate > 0)
        ids, wanted, flags = self.checked_window(inputs, targets, starts, room)
        T, B = ids.shape
        carried = self.checked_state(state, B)
        losses = np.empty((T, B))
        gradients = np.empty_like(self._flat)
        parts = self.parts(T, B)
        plan = window_plan(self.shape, T, B, parts, dropout=rate > 0)
        with self.workspace(plan.size) as workspace:
            team = workspace.team
            parts = team.at_most(parts)
            team.run(
                parts,
                lambda part: self.backend.network_gradients(
                    losses, gradients, carried, workspace.flat, team.sync, self._flat, ids, wanted, flags,
                    plan.numbers, 1.0, rate, key, 0, part, parts, T, B,
                ),
                lasts=self.lasts(T, B),
            )  # fmt: skip
        return float(losses.sum()), self.layout.views(gradients), self.public_state(carried)

    def losses(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: StateLike | None = None,
        starts: ArrayLike | None = None,
    ) -> tuple[Array, State]:
        """Return the loss of each target in nats, float64 (T, B), and the state after the window.

        Arguments and errors are those of `loss_and_gradients`.
        """
        ids, wanted, flags = self.checked_window(
            inputs, targets, starts, lambda T, B: 8 * T * B + self._state_bytes(B)
        )
        carried = self.checked_state(state, ids.shape[1])
        losses = np.empty(ids.shape)
        self.run_losses(losses, carried, ids, wanted, flags)
        return losses, self.public_state(carried)

    def run_losses(self, losses: Array, state: Array, inputs: Array, targets: Array, starts: Array) -> None:
        """Fill in the losses (T, B), and replace the state (Z, L, B, H). Internal.

        The arrays are the caller's own: no other thread writes to them.
        """
        T, B = losses.shape
        checks.buffer("losses", losses, checks.FLOAT64, (T, B))
        checks.buffer("state", state, self.dtype, (self.shape.Z, self.shape.L, B, self.shape.H))
        checks.window_buffers(inputs, targets, starts, (T, B))
        self._run_forward(self.backend.network_losses, losses, state, inputs, targets, starts)

    def _run_forward(self, kernel: Callable[..., None], out: Array, state: Array, *window: Array) -> None:
        """Run a kernel that only goes forward, in short calls, between which the state is carried.

        It fills ``out`` (T, B, …), and replaces the state (Z, L, B, H); a window's arrays are (T, B).
        """
        T, B = out.shape[:2]
        cost = self._cost()
        of_step, of_symbol = self.shape.L * cost.layer, self._cost_of_symbol(cost)
        rows_at_once = min(B, max(1, cost.call // of_symbol))
        steps_at_once = max(1, cost.call // (of_step + rows_at_once * of_symbol))
        for row in range(0, B, rows_at_once):
            rows = slice(row, row + rows_at_once)
            for step in range(0, T, steps_at_once):
                piece = slice(step, step + steps_at_once), rows
                self._run_rows(kernel, out[piece], state[:, :, rows], *(array[piece] for array in window))

    def lasts(self, T: int, B: int) -> bool:
        """Whether a window's gradients last, so that whoever waits for them must hear Ctrl-C. Internal.

        It does so anyway where the work is not shared: that is NumPy.
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

    def _run_rows(self, kernel: Callable[..., None], out: Array, state: Array, *window: Array) -> None:
        """Do one call of `_run_forward`, some of the rows in each thread."""
        T, B = out.shape[:2]

        def run_part(part: int) -> None:
            rows = slice(B * part // parts, B * (part + 1) // parts)
            seen = out[:, rows], state[:, :, rows], *(array[:, rows] for array in window)
            some_out, some_state, *some_window = own = [np.ascontiguousarray(array) for array in seen]
            sizes = T, rows.stop - rows.start
            plan = forward_plan(self.shape, *sizes)
            with self.workspace(plan.size) as workspace:
                kernel(some_out, some_state, workspace.flat, self._flat, *some_window, plan.numbers, *sizes)
            for array, copied in zip(seen[:2], own, strict=False):
                if copied is not array:
                    array[...] = copied

        with self.workspace(0) as workspace:  # for its team; each part has one of its own
            parts = workspace.team.at_most(self.parts(T, B, passes=1))
            workspace.team.run(parts, run_part)

    def prepare_steps(self) -> Prepared:
        """Pack the weights for single steps of one row. Internal."""
        plan, size = step_plan(self.shape, 1)
        weights, scratch = memory.aligned(size, self.dtype), memory.aligned(plan.size, self.dtype)
        self.backend.network_prepare(weights, self._flat, plan.numbers)
        return Prepared(plan, weights, scratch, np.empty((1, self.shape.V), self.dtype))

    def sample(
        self,
        n: int,
        symbol: int,
        state: Array,
        *,
        temperature: float,
        rng: Any,
        last: int | None = None,
        prepared: Prepared | None = None,
    ) -> Array:
        """Draw n ids one after the other. Internal.

        The first follows ``symbol`` and the state (Z, L, 1, H), which is carried along; the ids (n) end early
        after ``last``. Each takes one uniform draw. Parameters whose state or logits overflow are a
        ``ValueError``.
        """
        if not 0 <= symbol < self.shape.V:
            raise ValueError(f"symbol={symbol} must be within 0 … {self.shape.V - 1}")
        checks.buffer("state", state, self.dtype, (self.shape.Z, self.shape.L, 1, self.shape.H))
        uniforms = checks.uniforms(rng, n)
        symbols = np.empty(n, np.int32)
        steps = prepared or self.prepare_steps()
        never, at_once = np.zeros(1, np.uint8), max(1, CALL_OPERATIONS // self.shape.operations)
        for start in range(0, n, at_once):
            some = slice(start, start + at_once)
            drawn = symbols[some]
            self.backend.sample(
                drawn, state, steps.scratch, steps.logits, steps.weights, self._flat, uniforms[some], never,
                steps.plan.numbers, temperature, symbol, -1 if last is None else last, len(drawn),
            )  # fmt: skip
            if drawn.min() < 0 or not np.isfinite(state).all():
                raise self.out_of_range()
            ends = np.flatnonzero(drawn == last)
            if ends.size:
                return symbols[: start + int(ends[0]) + 1]
            symbol = int(drawn[-1])
        return symbols

    def out_of_range(self) -> ValueError:
        """The error that logits or a state are not finite: no argument, but parameters do that. Internal."""
        name, parameter = max(self.parameters.items(), key=lambda item: float(np.abs(item[1]).max()))
        return ValueError(
            "the model's parameters are out of range: its state or its logits overflow; "
            f"the largest element is {np.abs(parameter).max():.3g}, of {name}"
        )

    def parts(self, T: int, B: int, passes: int = 3) -> int:
        """How many threads a window of T steps and B rows is worth. Internal.

        ``passes`` counts the forward pass as one and the backward one as two.
        """
        if not self.backend.description.shares_work:
            return 1
        operations = passes * T * B * self.shape.operations
        return max(1, min(self.threads, B // LEAST_ROWS, operations // LEAST_WORK))

    def checked_window(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        starts: ArrayLike | None,
        room: Callable[[int, int], int],
    ) -> tuple[Array, Array, Array]:
        """Return copies of inputs, targets and starts (T, B) as the kernels want them, or raise. Internal.

        ``room`` has the bytes that such a window needs beside its copies. One that cannot fit is refused
        before it is read.
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
        """The bytes that a window needs to go forward and backward, by its T and B. Internal."""

        def room(T: int, B: int) -> int:
            plan = window_plan(self.shape, T, B, self.parts(T, B), dropout=dropout)
            return 8 * T * B + self._state_bytes(B) + (plan.size + self.layout.size) * self.dtype.itemsize

        return room

    def _state_bytes(self, B: int) -> int:
        return self.shape.Z * self.shape.L * B * self.shape.H * self.dtype.itemsize

    def checked_state(self, state: StateLike | None, B: int) -> Array:
        """Return a copy of the state as the kernels want it, (Z, L, B, H); ``None`` is zeros. Internal."""
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
        )  # and two for checks
        with np.errstate(over="ignore"):
            carried = array.astype(self.dtype, order="C", copy=True)
        carried[np.abs(carried) < TINY[self.dtype.name]] = 0
        if not np.isfinite(carried).all():
            raise ValueError(f"{name} has NaN or infinite elements in {self.dtype}")
        return carried

    def public_state(self, state: Array) -> State:
        """A state (Z, L, B, H) as users see it: h (L, B, H), or for the LSTM the pair (h, c). Internal."""
        return (state[0], state[1]) if self.shape.Z == 2 else state[0]

    @contextmanager
    def workspace(self, size: int) -> Iterator[Workspace]:
        """Check out a workspace with room for so many elements. Internal.

        Each concurrent caller has its own, so one network serves many threads; what they leave behind is
        kept for the next ones.
        """
        try:
            workspace = self._idle_workspaces.pop()
        except IndexError:
            workspace = Workspace(np.empty(0, self.dtype), Team())
        if workspace.flat.size < size:
            memory.require(size * self.dtype.itemsize, "what a window needs to be worked on")
            workspace.flat = memory.aligned(size, self.dtype)
        try:
            yield workspace
        finally:
            self._idle_workspaces.append(workspace)

    def to_torch_state_dict(self) -> dict[str, Array]:
        """The parameters as a PyTorch module with ``embedding``, ``rnn`` and ``head`` has them, in NumPy.

        See `fastrnn.network.torch_state.to_torch_state_dict` for names and shapes.
        """
        return to_torch_state_dict(self.parameters, cell=self.cell)

    @classmethod
    def from_torch_state_dict(
        cls,
        state_dict: Mapping[str, Any],
        *,
        cell: str | None = None,
        embedding: str | None = None,
        head: str | None = None,
        **options: Any,
    ) -> Network:
        """The network that a PyTorch module is, of an embedding, recurrent layers and a linear head.

        Parameters
        ----------
        state_dict, cell, embedding, head
            The module's state dict, of arrays or tensors, and what
            `fastrnn.network.torch_state.from_torch_state_dict` may have to be told.
        options
            Other arguments of `Network`, such as ``activation``, which a state dict does not tell, and
            ``backend``. ``dtype`` is the state dict's unless it is given.

        Raises
        ------
        ValueError, TypeError
            The state dict has what such a network has not, or lacks what it has, or is not finite.
        """
        parameters, found = from_torch_state_dict(state_dict, cell=cell, embedding=embedding, head=head)
        options.setdefault("dtype", np.result_type(*parameters.values()))
        network = cls(**found, initialization="zeros", **options)
        for name, view in network.parameters.items():
            with np.errstate(over="ignore"):
                view[...] = parameters[name]
            if not np.isfinite(view).all():
                raise ValueError(f"{name} has NaN or infinite elements in {network.dtype}")
        return network

    def with_parameters(self, flat: Array) -> Network:
        """The same network with other parameters, which stay in this vector, in its order. Internal.

        The vector is one of `fastrnn.core.memory.lasting`.
        """
        checks.buffer("flat", flat, self.dtype, (self.layout.size,))
        if not memory.is_lasting(flat):
            raise ValueError("flat is memory that others can free; fastrnn.core.memory.lasting must make it")
        other = object.__new__(type(self))
        vars(other).update(vars(self), _flat=flat, _idle_workspaces=[])
        return other

    def options(self) -> dict[str, Any]:
        """What it has beside its cell and its size, by the names of its arguments."""
        return {name: getattr(self, name) for name in OPTIONS}

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "cell": self.cell,
            **self.options(),
            "dtype": self.dtype.name,
            "backend": self.backend.name,
            "threads": self.threads_asked,
        }
        return _from_pickle, (type(self), arguments, self.flat)

    def __repr__(self) -> str:
        said = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "cell": self.cell,
            **{name: value for name, value in self.options().items() if value != OPTIONS[name]},
            "dtype": self.dtype.name,
            "backend": self.backend.name,
        }
        arguments = ", ".join(f"{name}={value!r}" for name, value in said.items())
        return f"Network({arguments}): {self.layout.size:,} parameters"


def _from_pickle(kind: type[Network], arguments: dict[str, Any], flat: Array) -> Network:
    """The network that was pickled or copied: all is checked again, and the parameters are its own."""
    network = kind.__new__(kind)
    Network.__init__(network, initialization="zeros", **arguments)
    if np.shape(flat) != network.flat.shape:
        raise ValueError(f"flat has shape {np.shape(flat)}; it must be {network.flat.shape}")
    network.flat[...] = flat
    return network


#: Defaults of what a network may have beside its cell and its size.
OPTIONS: dict[str, Any] = {
    "activation": "tanh",
    "num_layers": 1,
    "embedding_size": None,
    "tied": False,
    "dropout": 0.0,
}


def checked_shape(
    vocab_size: Any,
    hidden_size: Any,
    cell: Any = "rnn",
    activation: Any = "tanh",
    num_layers: Any = 1,
    embedding_size: Any = None,
    tied: Any = False,
) -> Shape:
    """The shape of a network with these arguments, or an error that names the one that is wrong."""
    kind = checks.one_of("cell", cell, CELLS)
    function = checks.one_of("activation", activation, ACTIVATIONS)
    if kind == "rnn":
        kind = f"rnn_{function}"
    elif function != "tanh":
        raise ValueError(f"activation={activation!r} is for cell='rnn'; a {kind} has its own")
    L = checks.whole_number("num_layers", num_layers)
    if L > MOST_LAYERS:
        raise ValueError(f"num_layers={L} must be at most {MOST_LAYERS}")
    V = checks.whole_number("vocab_size", vocab_size, maximum=MOST_SYMBOLS)
    H = checks.whole_number("hidden_size", hidden_size, maximum=checks.LARGEST_SIZE)
    E = 0
    if embedding_size is not None:
        E = checks.whole_number("embedding_size", embedding_size, maximum=checks.LARGEST_SIZE)
    if checks.flag("tied", tied) and E != H:
        raise ValueError(
            f"tied=True needs embedding_size={embedding_size!r} to be hidden_size={hidden_size!r}"
        )
    return Shape(kind, L, V, E, H, bool(tied))


def checked_threads(value: Any) -> int:
    """Return a number of threads; ``None`` is as many as the process may use cores."""
    if value is None:
        return usable_cores()
    return checks.whole_number("threads", value, maximum=MOST_THREADS)


def checked_key(name: str, value: Any) -> int:
    """Return a key of dropout."""
    return checks.whole_number(name, value, minimum=0)
