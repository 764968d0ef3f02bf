"""Fine-tuning: training that begins with the weights of a model, whose vocabulary may have to grow.

The new network has the settings of the model's. Its symbols are the model's and those of the new text; ids
are in the order of code points, so the rows of the input's weight and of the head move. Whether there is a
boundary or an unknown symbol depends on the new training alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.checks import shown
from fastrnn.core.constants import FUNCTIONS
from fastrnn.data.sources import FILE_UNITS, files_of
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.model.model import Model
from fastrnn.network import config
from fastrnn.network.network import Network
from fastrnn.training.groups import Groups
from fastrnn.training.presets import AUTO, TrainingConfig

#: What a network drops. Fine-tuning has that of the model, unless something else is given.
DROPPED = ("dropout", "input_dropout")

#: The settings of a network that are about its parameters. Fine-tuning must have those of the model.
OF_PARAMETERS = tuple(name for name in config.OPTIONS if name not in DROPPED)

#: The parameters with a row for each symbol, and the axis of these rows in the public shape.
OF_SYMBOLS = {"embedding.weight": 0, "weight_ih_l0": 1, "head.weight": 0, "head.bias": 0}


def initial_model(init: Any, backend: str) -> Model | None:
    """Return the model that ``init`` is or that its file holds.

    Raises
    ------
    TypeError
        It is neither a model nor a path.
    ValueError
        Its weights are not finite.
    OSError, fastrnn.CheckpointError
        The file cannot be read, or is not a model.
    """
    if init is None:
        return None
    if not isinstance(init, Model | str | os.PathLike):
        raise TypeError(f"init={shown(init)} must be a fastrnn.Model, or the path of its file")
    from fastrnn.model.loading import load

    model = init if isinstance(init, Model) else load(init, backend=backend)
    if not np.isfinite(model.network.flat).all():
        raise ValueError("init has weights that are NaN or infinite: training cannot begin with them")
    return model


def settings_of(model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are given, with those of the model's network and the digest of its weights.

    Raises
    ------
    ValueError
        A setting that is given contradicts the model.
    """
    network = vars(model.network.config)
    own = {name: network[name] for name in OF_PARAMETERS}
    for name in OF_PARAMETERS:
        if name in given and not (isinstance(given[name], str) and given[name] == AUTO):
            value = config.CHECKS[name](name, given[name])
            if value != own[name]:
                raise ValueError(
                    f"{name}={shown(value)} contradicts init, whose network has {name}={own[name]!r}: "
                    "leave it out"
                )
    if given.get("initialization") is not None:
        raise ValueError(
            f"initialization={given['initialization']!r} draws weights, and init has them: leave it out"
        )
    own |= {"initialization": None, "init": digest_of(model.network)}
    return {**{name: network[name] for name in DROPPED}, **given, **own}


def digest_of(network: Network) -> str:
    """SHA-256 of a network's parameters."""
    from hashlib import sha256

    little_endian = network.flat.astype(network.dtype.newbyteorder("<"), copy=False)
    return sha256(little_endian.data).hexdigest()


def tokens_of(vocabulary: Vocabulary, given: TokenVocabulary | None) -> TokenVocabulary | None:
    """Return the tokens of fine-tuning: the model's, or those that are given, which must begin with these.

    Raises
    ------
    TypeError
        Tokens are given, and the model has none.
    ValueError
        They are fewer than the model's, or have other names.
    """
    if not isinstance(vocabulary, TokenVocabulary):
        if given is not None:
            raise TypeError(f"vocabulary is of tokens, and init is a model of {vocabulary.unit}s")
        return None
    if given is None:
        return vocabulary
    n, known = len(vocabulary.symbols), vocabulary.tokens
    if len(given.symbols) < n:
        raise ValueError(f"vocabulary has {len(given.symbols)} tokens; it must begin with the {n} of init")
    if known is not None and (given.tokens is None or given.tokens[:n] != known):
        place = next((i for i, name in enumerate(known) if given.tokens and given.tokens[i] != name), 0)
        raise ValueError(
            f"vocabulary has other names than init, whose token {place} is {known[place]!r}: it must begin "
            "with the names of init"
        )
    return given


def unit_of_file(vocabulary: Vocabulary, text: Any, unit: str | None) -> str | None:
    """Return the unit in which a file is read: the one that is given, or the model's."""
    is_open = unit is None and bool(files_of(text))
    return vocabulary.unit if is_open and vocabulary.unit in FILE_UNITS else unit


def rule_of(vocabulary: Vocabulary, name: str, given: str | None) -> str | None:
    """Return how characters are read in fine-tuning, by the model's ``newlines`` or ``normalization``.

    Raises
    ------
    ValueError
        Another one is given.
    """
    if vocabulary.unit != "character":
        return given
    rule: str | None = getattr(vocabulary, name)
    if given not in (None, rule):
        raise ValueError(f"{name}={given!r} contradicts init, which has {name}={rule!r}: leave it out")
    return rule


def require_unit(vocabulary: Vocabulary, unit: str) -> None:
    """Require that the text has the unit of the model."""
    if vocabulary.unit != unit:
        raise TypeError(f"the text is of {unit}s, and init is a model of {vocabulary.unit}s")


def transfer(network: Network, vocabulary: Vocabulary, counts: NDArray[np.int64], model: Model) -> None:
    """Give a network the weights of a model; symbols that the model does not know get new rows.

    The rows of a new symbol are zero; means of rows and random rows learn no faster. Its bias in the head is
    the mean of those of the model's symbols, each of which counts as often as it occurs in the new text and
    once more, plus the logarithm of its own count, less the mean of theirs. So before the first update, the
    network predicts a new symbol about as often as it occurs.

    Parameters
    ----------
    network
        The network to fill, with any weights.
    vocabulary, counts
        The network's symbols, and how often each id occurs in the new text (V).
    model
        Its network differs from the new one only in its number of symbols.
    """
    ids = vocabulary.ids_in(model.vocabulary)
    is_new = ids < 0
    old, new = model.network.parameters, network.parameters
    for name, view in new.items():
        axis = OF_SYMBOLS.get(name)
        if axis is None or (name == "weight_ih_l0" and network.embedding_size is not None):
            view[...] = old[name]
        else:
            rows, known = (np.moveaxis(array, axis, 0) for array in (view, old[name]))
            rows[~is_new], rows[is_new] = known[ids[~is_new]], 0
    if is_new.any():
        bias, weights = new["head.bias"], counts + 1.0
        logs = _logarithms(network, weights)
        bias[is_new] = logs[is_new] + _mean(bias[~is_new] - logs[~is_new], weights[~is_new])


def shrink(network: Network, config: TrainingConfig) -> None:
    """Multiply the weights that will be trained by ``init_scale``.

    A network whose weights have grown for one text generalizes worse from another one than a new network;
    with smaller weights it learns as a new one does, and keeps what it knows (Ash & Adams 2020, On
    Warm-Starting Neural Network Training, who also add noise).
    """
    groups = Groups(config.freeze, config.learning_rate_factors, config.weight_decay_factors)
    for trained in groups.ranges(network.layout, config.optimizer):
        network.flat[trained.begin : trained.end] *= cast("float", config.init_scale)


def _mean(values: NDArray[Any], weights: NDArray[Any]) -> float:
    """The weighted mean, 0 of no values. The sums are exact, so they have the same bits on every machine."""
    return math.fsum(values * weights) / math.fsum(weights) if len(values) else 0.0


def _logarithms(network: Network, x: NDArray[Any]) -> NDArray[Any]:
    """Natural logarithms by the backend's kernel: the compiled ones have the same bits on every machine."""
    y = np.empty_like(x)
    network.backend.elementary(y=y, x=x, function=FUNCTIONS.index("log"), n=x.size)
    return y
