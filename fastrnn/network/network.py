"""A recurrent network: parameters in one flat buffer, and the kernels of a backend.

T time steps · B batch rows · V vocabulary · E elements of an embedding · H hidden units · L layers · G gates
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn.backends.registry import get_backend
from fastrnn.core import checks, memory
from fastrnn.core.plan import window_plan
from fastrnn.network.config import NetworkConfig
from fastrnn.network.drawing import Drawing
from fastrnn.network.execution import SYMBOL_BYTES, Array, State, StateLike
from fastrnn.network.initialization import check_initialization, initialize
from fastrnn.network.snapshot import Snapshot


class Network(Drawing):
    """A recurrent language model: one-hot input or embedding, layers of one cell, linear head.

    Many threads may use one network at once, as long as none of them changes its parameters. Results do
    not depend on the number of threads that the network uses.

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
        L; the output of a layer is the input of the next one.
    embedding_size
        E, the size of an embedding of the input; ``None`` is a one-hot input.
    tied
        Whether the head and the embedding share one weight (Press & Wolf 2017); this needs E = H.
    dropout
        The fraction of each layer's output, also of the last one's, that is dropped in training, from 0 to
        below 1 (Srivastava et al. 2014; Zaremba et al. 2014). `forward` and `losses` drop nothing.
    input_dropout
        The fraction of the input symbols whose embedding is dropped as a whole in training, from 0 to below
        1 (Iyyer et al. 2015; Bowman et al. 2016); this needs an embedding.
    dtype
        ``"float32"`` or ``"float64"``: the type of the parameters and of the arithmetic.
    backend
        ``"auto"``, ``"c"``, ``"numba"`` or ``"numpy"``; see `fastrnn.backends.get_backend`.
    initialization
        How weights are drawn, in the order of `parameters`. ``"orthogonal"``: each gate's recurrent matrix is
        orthogonal (Saxe, McClelland & Ganguli 2014); the others are uniform (Glorot & Bengio 2010).
        ``"identity"``: each gate's recurrent matrix is the identity (Le, Jaitly & Hinton 2015).
        ``"uniform"``: all parameters are within ±1/√H, as in PyTorch's recurrent layers; ``"uniform(0.08)"``:
        within ±0.08. ``"normal"``: weights have a standard deviation of 0.01; ``"normal(0.1)"``: of 0.1.
        ``"zeros"``: for weights that are set later. Biases are zero, except with ``"uniform"``. An LSTM's
        forget gate has a bias of 1 (Jozefowicz, Zaremba & Sutskever 2015), except with ``"zeros"``. ``None``
        is orthogonal, and identity for relu.
    threads
        The most threads that a call uses; ``None`` is one for each core that the process may use. A small
        window uses fewer: threads share its rows, or, if the rows are few and the layers large, the columns
        of its products. With the ``"numpy"`` backend, only NumPy's BLAS uses threads.
    rng
        An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for unpredictable draws (SPEC 7).

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or of the wrong type.
    MemoryError
        The parameters do not fit into memory.
    fastrnn.BackendUnavailableError
        The backend cannot run here.
    """

    config: Final[NetworkConfig]

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
        input_dropout: float = 0.0,
        dtype: DTypeLike = "float32",
        backend: str = "auto",
        initialization: str | None = None,
        threads: int | None = None,
        rng: Any = None,
    ) -> None:
        self.config = NetworkConfig(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            cell=cell,
            activation=activation,
            num_layers=num_layers,
            embedding_size=embedding_size,
            tied=tied,
            dropout=dropout,
            input_dropout=input_dropout,
            dtype=dtype,  # type: ignore[arg-type]  # the check makes it a name
        )
        if initialization is None:
            initialization = "identity" if activation == "relu" else "orthogonal"
        initialization = check_initialization(initialization)
        generator = checks.random_generator(rng)
        super().__init__(self.config.shape, np.dtype(self.config.dtype), get_backend(backend), threads)
        self._snapshot: Snapshot | None = None
        initialize(
            self.parameters, initialization, cell=self.cell, hidden_size=self.hidden_size, rng=generator
        )

    @property
    def vocab_size(self) -> int:
        """V, the number of symbols."""
        return self.config.vocab_size

    @property
    def hidden_size(self) -> int:
        """H, the number of hidden units of a layer."""
        return self.config.hidden_size

    @property
    def num_layers(self) -> int:
        """L, the number of layers."""
        return self.config.num_layers

    @property
    def embedding_size(self) -> int | None:
        """E, the size of the embedding; ``None`` if the input is one-hot."""
        return self.config.embedding_size

    @property
    def tied(self) -> bool:
        """Whether the head and the embedding share one weight."""
        return self.config.tied

    @property
    def dropout(self) -> float:
        """The fraction of each layer's output that is dropped in training."""
        return self.config.dropout

    @property
    def input_dropout(self) -> float:
        """The fraction of the input symbols that are dropped in training."""
        return self.config.input_dropout

    @property
    def cell(self) -> str:
        """``"rnn"``, ``"gru"`` or ``"lstm"``."""
        return self.config.cell

    @property
    def activation(self) -> str:
        """``"tanh"``, or for an rnn also ``"relu"``."""
        return self.config.activation

    @property
    def flat(self) -> Array:
        """All parameters in one vector, a writable view of the memory that the kernels read."""
        return self._flat[:]

    @flat.setter
    def flat(self, value: Array) -> None:
        """Allow ``network.flat *= 2``: Python writes into the vector, and then sets the attribute to it."""
        if type(value) is not np.ndarray or value.__array_interface__ != self._flat.__array_interface__:
            raise AttributeError("flat of a Network cannot be set: write into it, network.flat[...] = values")

    @property
    def parameters(self) -> dict[str, Array]:
        """Writable views by name, with PyTorch's names and shapes.

        ``embedding.weight (V, E)``, if there is one; for each layer, from ``l0`` on, ``weight_ih_l0
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
            The state before the window: h (L, B, H), or for the LSTM the pair (h, c); ``None`` is zeros. It
            is not changed.
        starts
            (T, B): at a 1 the row's state is set to zero before the step; ``None`` is all 0.

        Returns
        -------
        logits, state
            The logits (T, B, V), and the state after the window, in the form of ``state``. Only with relu
            can the state grow without limit, to infinity and then NaN.

        Raises
        ------
        ValueError, TypeError
            An argument has the wrong shape, type or range.
        MemoryError
            The window does not fit into memory.
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
        self._run_forward(self._logits, logits, carried, ids, marks)
        return logits, self.public_state(carried)

    def loss_and_gradients(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: StateLike | None = None,
        starts: ArrayLike | None = None,
        dropout_seed: int | None = None,
    ) -> tuple[float, dict[str, Array], State]:
        """Run a window forward and backward (truncated backpropagation through time).

        Parameters
        ----------
        inputs, state, starts
            As in `forward`.
        targets
            Ids (T, B); -1 where there is no loss.
        dropout_seed
            From 0 to 2⁶³ - 1. The same seed drops the same elements; ``None`` drops none.

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
        seed = 0 if dropout_seed is None else checked_seed("dropout_seed", dropout_seed)
        dropout, input_dropout = (0.0, 0.0) if dropout_seed is None else (self.dropout, self.input_dropout)
        room = self.training_room(dropout=dropout > 0)
        ids, wanted, flags = self.checked_window(inputs, targets, starts, room)
        T, B = ids.shape
        carried = self.checked_state(state, B)
        losses = np.empty((T, B))
        gradients = np.empty_like(self._flat)
        split = self.split(T, B)
        plan = window_plan(self.shape, T, B, split, dropout=dropout > 0)
        with self.workspace(plan.size) as workspace:
            team = workspace.team
            parts = team.at_most(split.parts)
            team.run(
                parts,
                lambda part: self.backend.network_gradients(
                    losses=losses, grads=gradients, state=carried, workspace=workspace.flat,
                    barrier=team.barrier, params=self._flat, inputs=ids, targets=wanted, starts=flags,
                    plan=plan.numbers, scale=1.0, dropout=dropout, input_dropout=input_dropout,
                    dropout_seed=seed, update=0, part=part,
                    parts=parts, T=T, B=B,
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

    def to_torch_state_dict(self) -> dict[str, Array]:
        """The parameters as a PyTorch module's state dict of NumPy arrays (``embedding``, ``rnn``, ``head``).

        See `fastrnn.network.torch_state.to_torch_state_dict` for names and shapes.
        """
        from fastrnn.network.torch_state import to_torch_state_dict

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
        """Make a network from a PyTorch module with a linear head, recurrent layers and perhaps an embedding.

        Parameters
        ----------
        state_dict, cell, embedding, head
            The module's state dict, of arrays or tensors, and the other arguments of
            `fastrnn.network.torch_state.from_torch_state_dict`.
        options
            Other arguments of `Network`, such as ``backend``, and ``activation``, which a state dict does not
            contain. The default of ``dtype`` is that of the state dict.

        Raises
        ------
        ValueError, TypeError
            The state dict lacks an entry, or has one that a network does not have or that is not finite.
        """
        from fastrnn.network.torch_state import from_torch_state_dict

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
        """The same network with this vector as its parameters; it is not copied. Internal.

        `fastrnn.core.memory.lasting` must have made the vector.
        """
        checks.buffer("flat", flat, self.dtype, (self.layout.size,))
        if not memory.is_lasting(flat):
            raise ValueError("flat is memory that others can free; fastrnn.core.memory.lasting must make it")
        other = object.__new__(type(self))
        vars(other).update(vars(self), _flat=flat, _idle_workspaces=[], _snapshot=None)
        return other

    def snapshot(self) -> Snapshot:
        """The present parameters, packed for reading; it is made anew only if they changed. Internal."""
        if self._snapshot is None or not self._snapshot.is_of(self.flat, self.threads):
            memory.require(2 * self.flat.nbytes, "a copy of the parameters, and the packed weights")
            flat = memory.lasting(self.layout.size, self.dtype)
            flat[...] = self.flat
            self._snapshot = Snapshot(self.with_parameters(flat), flat)
        return self._snapshot

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {**vars(self.config), "backend": self.backend.name, "threads": self.threads_asked}
        return _from_pickle, (type(self), arguments, self.flat)

    def __repr__(self) -> str:
        said = {**self.config.changed(), "backend": self.backend.name}
        arguments = ", ".join(f"{name}={value!r}" for name, value in said.items())
        return f"Network({arguments}): {self.layout.size:,} parameters"


def checked_seed(name: str, value: Any) -> int:
    """Return a seed of dropout, from 0 to 2⁶³ - 1."""
    return checks.whole_number(name, value, minimum=0)


def _from_pickle(kind: type[Network], arguments: dict[str, Any], flat: Array) -> Network:
    """Make a network that was pickled or copied. All is checked again, and the parameters are copied."""
    network = kind.__new__(kind)
    Network.__init__(network, initialization="zeros", **arguments)
    if np.shape(flat) != network.flat.shape:
        raise ValueError(f"flat has shape {np.shape(flat)}; it must be {network.flat.shape}")
    network.flat[...] = flat
    return network
