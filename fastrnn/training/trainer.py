"""Updates of a network by truncated BPTT: forward, backward, clip and update, in few native calls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.core import checks, memory
from fastrnn.core.constants import REDUCTIONS, SETTINGS
from fastrnn.core.plan import window_plan
from fastrnn.data.batches import Batch
from fastrnn.errors import DivergenceError
from fastrnn.network.execution import SMALL_WINDOW, SYMBOL_BYTES, Array, State, StateLike
from fastrnn.network.network import Network
from fastrnn.optimizers import Optimizer, get_optimizer
from fastrnn.training.groups import Groups, Range, bounds
from fastrnn.training.pace import Floats, Pace, blocks
from fastrnn.training.update_settings import UpdateSettings

#: The arguments of a trainer.
ARGUMENTS = (
    *("network", "optimizer", "learning_rate", "clip_value", "clip_norm", "reduction", "averaging"),
    *("dropout_seed", "freeze", "learning_rate_factors", "weight_decay_factors"),
)


class Trainer(UpdateSettings):
    """Trains a network on windows, and carries the state from one window to the next.

    Only one thread may use a trainer. While it trains, no other thread may use its network.

    Parameters
    ----------
    network
        The `Network` whose parameters are updated in place.
    optimizer
        ``"sgd"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"``, ``"adamw"``, or one of `fastrnn.optimizers` with
        other settings.
    learning_rate
        The learning rate. It is an attribute too, and can be set between updates.
    clip_value
        The largest absolute value of an element of the gradient; ``None`` does not clip. It is applied before
        ``clip_norm``.
    clip_norm
        The largest Euclidean norm of the whole gradient; ``None`` does not clip.
    reduction
        What the gradient is of. ``"sum"``: the sum of the losses, as in the preset scratch. ``"mean"``: their
        mean over the targets. ``"batchmean"``: their sum divided by the number of rows, as in char-rnn.
    averaging
        The decay, from 0 to below 1, of an exponential moving average of the parameters, as in
        ``torch.optim.swa_utils.get_ema_multi_avg_fn``; ``None`` makes no average. See `averaged_network`.
    dropout_seed
        From 0 to 2⁶³ - 1. This and the number of the update determine what the network's dropout drops.
    freeze
        Names of parameters, as in `Network.parameters`, that are not trained; or patterns of names, as of
        files in a shell: ``["embedding.*", "*_l0"]``. A frozen parameter does not change by a single bit. Its
        gradient counts neither in ``gradient_norm`` nor in ``clip_norm``, as in PyTorch.
    learning_rate_factors
        What the learning rate of some parameters is multiplied by, above zero, by name or pattern:
        ``{"head.*": 0.1}``. No parameter may have two factors.
    weight_decay_factors
        What the weight decay of some parameters is multiplied by, zero or more: ``{"*bias*": 0}``. It needs
        ``"adamw"``.

    Attributes
    ----------
    updates
        The number of updates that were done.
    gradient_norm
        The norm of the last update's gradient, after the clip by value and before the clip by norm; NaN
        before the first.

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or of the wrong type.
    """

    network: Final[Network]
    _optimizer: Final[Optimizer]
    _averaging: Final[float | None]
    _groups: Final[Groups]
    _ranges: Final[tuple[Range, ...]]
    _parameters: Final[Array]
    _moments: Final[Array]
    _gradients: Final[Array]
    _average: Final[Array]

    _instead: ClassVar[dict[str, str]] = {
        "updates": "it counts the updates that were done",
        "gradient_norm": "it is that of the last update",
        "averaged_network": "write into it, averaged_network.flat[...] = values",
    }

    def __init__(
        self,
        network: Network,
        *,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 0.001,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        reduction: str = "sum",
        averaging: float | None = None,
        dropout_seed: int = 0,
        freeze: Iterable[str] = (),
        learning_rate_factors: Mapping[str, float] | None = None,
        weight_decay_factors: Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise TypeError(f"network is {type(network).__name__}; it must be a fastrnn.Network")
        self.network = network
        self.learning_rate = learning_rate
        self._optimizer = get_optimizer(optimizer)
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.reduction = reduction
        self._averaging = None if averaging is None else checks.fraction("averaging", averaging, zero=True)
        self.dropout_seed = dropout_seed
        self._groups = Groups(
            freeze,
            {} if learning_rate_factors is None else learning_rate_factors,
            {} if weight_decay_factors is None else weight_decay_factors,
        )
        self._ranges = self._groups.ranges(network.layout, self._optimizer)
        self._updates = 0
        self._gradient_norm = math.nan
        self._state: Array | None = None
        self._paces: dict[tuple[int, int], Pace] = {}
        self._parameters = network.flat
        n = network.layout.size
        memory.require(
            (1 + self._optimizer.moments + (averaging is not None)) * n * network.dtype.itemsize,
            f"gradients and moments of {n:,} parameters",
        )
        self._moments = self._optimizer.initial_moments(n, network.dtype)
        self._gradients = np.zeros(n, network.dtype)
        self._average = memory.lasting(0 if averaging is None else n, network.dtype).reshape(-1, n)
        self._average[...] = network.flat
        checks.buffer("moments", self._moments, network.dtype, (self._optimizer.moments, n))

    @property
    def updates(self) -> int:
        """The number of updates that were done."""
        return self._updates

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer. It cannot be set, because the trainer has moments of this optimizer."""
        return self._optimizer

    @property
    def averaging(self) -> float | None:
        """The decay of the moving average. It cannot be set, because the trainer has an average with it."""
        return self._averaging

    @property
    def freeze(self) -> tuple[str, ...]:
        """The names or patterns of the parameters that are not trained."""
        return tuple(self._groups.freeze)

    @property
    def learning_rate_factors(self) -> dict[str, float]:
        """The factors of learning rates by name or pattern."""
        return dict(self._groups.learning_rate_factors)

    @property
    def weight_decay_factors(self) -> dict[str, float]:
        """The factors of the weight decay by name or pattern."""
        return dict(self._groups.weight_decay_factors)

    @property
    def gradient_norm(self) -> float:
        """The norm of the last update's gradient, NaN before the first."""
        return self._gradient_norm

    @property
    def state(self) -> State | None:
        """A copy of the state that the next window begins with, as in `Network.forward`; it can be set.

        ``None`` is a state of zeros.
        """
        state = self._state
        return None if state is None else self.network.public_state(state.copy())

    @state.setter
    def state(self, value: StateLike | None) -> None:
        h: Any = value[0] if isinstance(value, tuple) and value else value
        rows = checks.as_array("state", h, "floats in an array (L, B, H)").shape[1:2]
        self._state = None if value is None else self.network.checked_state(value, rows[0] if rows else 1)

    def reset_state(self) -> None:
        """Let the next window begin with a state of zeros."""
        self._state = None

    def step(self, inputs: ArrayLike, targets: ArrayLike, starts: ArrayLike | None = None) -> float:
        """Do one update on one window; the next call continues with its last state.

        Parameters
        ----------
        inputs
            Ids (T, B), from 0 to V - 1.
        targets
            Ids (T, B); -1 is a step without a loss.
        starts
            (T, B): at a 1 the row's state is set to zero before the step; ``None`` is all 0.

        Returns
        -------
        float
            The sum of the cross-entropies in nats, before the update.

        Raises
        ------
        ValueError, TypeError, MemoryError
            As in `Network.forward`; also if the carried state has another number of rows.
        fastrnn.DivergenceError
            The loss or the gradient is not finite, and this update was not done; or the update overflowed.
        """
        room = self.network.training_room(dropout=self.network.dropout > 0)
        window = Batch(*self.network.checked_window(inputs, targets, starts, room))
        losses, _ = self.advance(window, window.n_steps, 0, np.array([self.learning_rate]))
        return float(losses[0])

    def steps(
        self, streams: ArrayLike, seq_length: int, starts: ArrayLike | None = None, passes: int = 1
    ) -> NDArray[np.float64]:
        """Do an update on each window of some streams.

        Parameters
        ----------
        streams
            Ids (N + 1, B): the first N symbols of a row are its inputs, the last N its targets.
        seq_length
            T, the steps of a window; the last window of a pass may be shorter.
        starts
            (N, B), as in `step`.
        passes
            How often the streams are read. The state is carried from one pass to the next too.

        Returns
        -------
        float64 (passes · ⌈N/T⌉)
            The sum of the cross-entropies of each window in nats, before its update.

        Raises
        ------
        ValueError, TypeError, MemoryError, fastrnn.DivergenceError
            As in `step`.
        """
        T = checks.whole_number("seq_length", seq_length)
        passes = checks.whole_number("passes", passes, minimum=0, maximum=checks.LARGEST_SIZE)
        batch = self._checked_streams(streams, starts, T, passes)
        T = min(T, batch.n_steps)
        losses = np.empty(passes * batch.windows(T))
        done, pace = 0, self._paces.setdefault((T, batch.batch_size), Pace())
        for block, count in blocks(batch, T, passes):
            part = losses[done : done + count]
            self._fill(part, block, T, pace)
            done += count
        return losses

    def _checked_streams(self, streams: ArrayLike, starts: ArrayLike | None, T: int, passes: int) -> Batch:
        """Return checked copies of streams and starts; their memory is checked before they are copied."""
        ids = checks.id_array("streams", streams)
        N, B = len(ids) - 1, ids.shape[1]
        if N < 1:
            raise ValueError(f"streams has shape {ids.shape}; it must be (N + 1, B), with N at least 1")
        flags = checks.flag_array("starts", starts, (N, B))
        T = min(T, N)
        memory.require(8 * passes * -(-N // T), f"the losses of {passes} passes")
        if ids.size > SMALL_WINDOW:
            room = self.network.training_room(dropout=self.network.dropout > 0)
            memory.require(ids.size * SYMBOL_BYTES + room(T, B), f"streams of {N + 1} symbols and {B} rows")
        ids = checks.private_copy("streams", ids, np.int32, 0, self.network.vocab_size - 1)
        return Batch(ids[:-1], ids[1:], checks.private_flags("starts", flags, (N, B)))

    def _fill(self, losses: Floats, batch: Batch, T: int, pace: Pace) -> None:
        """Do an update on each of the next windows of a batch, one for each loss, in short calls."""
        done = 0

        def update(count: int) -> Floats:
            return self.advance(batch, T, done, np.full(count, self.learning_rate))

        while done < len(losses):
            part, _ = pace.call(update, len(losses) - done)
            losses[done : done + len(part)] = part
            done += len(part)

    def advance(self, batch: Batch, seq_length: int, first: int, learning_rates: Floats) -> Floats:
        """Do one update for each of these learning rates, in one native call, from window ``first`` on.

        Internal: no other thread may write to the batch. Windows are counted through all passes. It returns
        (2, W): what `steps` returns, and the norm of each gradient. It raises what `steps` raises.
        """
        network, optimizer, W, B = self.network, self._optimizer, len(learning_rates), batch.batch_size
        checks.window_buffers(batch.inputs, batch.targets, batch.starts, (batch.n_steps, B))
        checks.buffer("learning_rates", learning_rates, checks.FLOAT64, (W,))
        if not (learning_rates.min(initial=0) >= 0 and learning_rates.max(initial=0) < math.inf):
            raise ValueError(f"learning_rates={checks.shown(learning_rates)} must be finite, zero or more")
        T = min(checks.whole_number("seq_length", seq_length), batch.n_steps)
        state = self._carried_state(B)
        # if Ctrl-C comes before the kernel writes a loss, the loss is NaN
        found, symbol_losses = np.full((2, W), math.nan), np.empty((T, B))
        losses, norms = found
        ranges, R = bounds(self._ranges), len(self._ranges)
        settings = np.stack([each.settings(learning_rates, self.updates) for each in self._ranges], axis=1)
        checks.buffer("settings", settings, checks.FLOAT64, (W, R, SETTINGS))
        weights = self._averaging_weights(W)
        if not self.updates:
            self._average[...] = self._parameters  # the update does not write the average of what is frozen
        # attributes that can be set are read once, so all parts get the same values
        optimizer_number, reduction = optimizer.number, REDUCTIONS.index(self.reduction)
        value_limit, norm_limit = self.clip_value or math.inf, self.clip_norm or math.inf
        dropout, input_dropout = network.dropout, network.input_dropout
        dropout_seed, updates = self.dropout_seed, self.updates
        split = network.split(T, B)
        plan = window_plan(network.shape, T, B, split, dropout=network.dropout > 0)
        try:
            with network.workspace(plan.size) as workspace:
                team = workspace.team
                parts = team.at_most(split.parts)
                team.run(
                    parts,
                    lambda part: network.backend.train_windows(
                        losses=losses, norms=norms, symbol_losses=symbol_losses, params=self._parameters,
                        grads=self._gradients, moments=self._moments, average=self._average, state=state,
                        workspace=workspace.flat, barrier=team.barrier, inputs=batch.inputs,
                        targets=batch.targets, starts=batch.starts, settings=settings,
                        average_weights=weights, ranges=ranges, plan=plan.numbers,
                        optimizer=optimizer_number, reduction=reduction, value_limit=value_limit,
                        norm_limit=norm_limit, dropout=dropout, input_dropout=input_dropout,
                        dropout_seed=dropout_seed, first_update=updates, first=first % batch.windows(T),
                        part=part, parts=parts, A=len(self._average), R=R, W=W, S=batch.n_steps, T=T,
                        B=B,
                    ),
                    lasts=network.lasts(T, B),
                )  # fmt: skip
        finally:  # after Ctrl-C too, the updates that were done are counted
            finite = np.isfinite(losses) & np.isfinite(norms)
            self._updates += int(np.count_nonzero(finite))
            self._gradient_norm = float(norms[finite][-1]) if finite.any() else self._gradient_norm
        if not finite.all():
            self.reset_state()
            raise DivergenceError(self._divergence(losses[~finite][0], norms[~finite][0]))
        if not np.isfinite(self._parameters).all():
            self.reset_state()
            raise DivergenceError(
                f"an update overflowed: parameters are not finite after {self.updates} updates. "
                f"The learning_rate, {self.learning_rate:g}, is far too high"
            )
        return found

    def _carried_state(self, B: int) -> Array:
        """The state that a window of B rows begins with; the window replaces it by its last state."""
        state = self._state
        if state is None:
            state = self._state = self.network.checked_state(None, B)
        if state.shape[2] != B:
            raise ValueError(
                f"the window has {B} rows and the carried state {state.shape[2]}: call reset_state() first"
            )
        return state

    def _averaging_weights(self, count: int) -> Floats:
        """The weight of the parameters in the average after each update; after the first update it is 1."""
        weights = np.full(count, 1 - (self.averaging or 0.0))
        weights[: int(self.updates == 0)] = 1
        return weights

    @property
    def averaged_network(self) -> Network:
        """The network with the average of its parameters; it shares the trainer's memory of the average.

        Before the first update, the average is the network's parameters.

        Raises
        ------
        ValueError
            The trainer was made without ``averaging``.
        """
        if self.averaging is None:
            raise ValueError("averaging=None keeps no average: give the trainer an averaging below one")
        return self.network.with_parameters(self._average[0])

    def _divergence(self, loss: float, norm: float) -> str:
        return (
            f"training diverged at update {self.updates}: the loss is {loss:.4g} and the norm of its "
            f"gradient {norm:.4g}. The parameters are as before that update. "
            f"A lower learning_rate (it was {self.learning_rate:g}) or a clip_norm usually helps"
        )

    def snapshot(self) -> dict[str, Array]:
        """Copies of all that the next update depends on, beside the arguments: arrays by name. Internal."""
        state = {} if self._state is None else {"state": self._state.copy()}
        return {
            "parameters": self._parameters.copy(),
            "moments": self._moments.copy(),
            "average": self._average.copy(),
            "updates": np.array(self._updates),
            "gradient_norm": np.array(self._gradient_norm),
            **state,
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take what `snapshot` of a trainer with the same arguments returned. Internal."""
        held = {"parameters": self._parameters, "moments": self._moments, "average": self._average}
        for name, array in held.items():
            checks.same_shape(name, arrays[name], array.shape)
            array[...] = arrays[name]
        self._updates = checks.whole_number("updates", arrays["updates"].item(), minimum=0)
        self._gradient_norm = float(arrays["gradient_norm"])
        state = arrays.get("state")
        self.state = None if state is None else self.network.public_state(state)

    def __getstate__(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in ARGUMENTS}
        return {"arguments": arguments, "arrays": self.snapshot()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` returned; it is checked again, and arrays are copied."""
        self.__init__(**state["arguments"])  # type: ignore[misc]  # an object that pickle made
        self.restore(state["arrays"])

    def __repr__(self) -> str:
        return (
            f"Trainer({self._optimizer!r}, learning_rate={self.learning_rate:g}, "
            f"clip_value={self.clip_value}, clip_norm={self.clip_norm}, reduction={self.reduction!r}): "
            f"{self.updates:,} updates done"
        )
