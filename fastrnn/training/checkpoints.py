"""Checkpoints: a training that was ended, by whatever, can go on as if it had not been."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import memory
from fastrnn.core.atomic import require_place, write_atomically
from fastrnn.core.checks import shown
from fastrnn.core.version import VERSION
from fastrnn.data.corpus import Sequence
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.errors import CheckpointError
from fastrnn.model.checkpoint_file import CheckpointFile
from fastrnn.model.history import History
from fastrnn.model.model import Model
from fastrnn.model.model_file import checked_settings
from fastrnn.training.events import Arrays, Callback, Training, Updates, below
from fastrnn.training.presets import TrainingConfig
from fastrnn.training.recorder import BestWeights

logger = logging.getLogger("fastrnn")

Generator = np.random.Generator | np.random.RandomState

#: What else a checkpoint and its training must have in common, with its name in errors.
COMPARED = {
    "rng": "rng (--seed)",
    "reading": "newlines or normalization",
    "vocabulary": "vocabulary",
    "text": "text",
    "validation": "text to validate on (validation=, --validation-file)",
}

#: The ids of a text that are hashed at a time.
HASHED_AT_ONCE = 1 << 20


class Checkpoints(Callback):
    """Writes checkpoints beside training, at a pace and at its end. It is a context: its end waits for them.

    If a file cannot be written, the one before stays, the user is told, and training goes on.

    Parameters
    ----------
    path
        The file.
    pace
        From one checkpoint to the next: an int is updates, a float is seconds.
    about
        What a checkpoint says of the training.
    best
        What keeps the best weights, or ``None`` if the last ones are kept.
    """

    def __init__(
        self, path: str | os.PathLike[str], pace: float, about: dict[str, Any], best: BestWeights | None
    ) -> None:
        self._path, self._about, self._best = Path(path), about, best
        self._seconds = pace if isinstance(pace, float) else None
        self.every = pace if isinstance(pace, int) else None
        self._last = time.monotonic()
        self._thread: Thread | None = None
        self._is_finished = False
        #: The errors of files that could not be written, by class and number: each is told once.
        self._failures: set[tuple[type, int | None]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):  # a second Ctrl-C waits for nothing
            self._wait()

    def before_training(self, training: Training) -> None:
        """Begin to count the time."""
        self._last = time.monotonic()

    def after_updates(self, training: Training, updates: Updates) -> None:
        """Begin to write a checkpoint if one is due, unless the one before is still being written."""
        if self._seconds is None:
            is_due = training.updates % (self.every or 1) == 0
        else:
            is_due = time.monotonic() - self._last >= self._seconds
        if not is_due or (self._thread is not None and self._thread.is_alive()):
            return
        self._last = time.monotonic()
        self._begin(training)

    def after_interruption(self, training: Training, is_between_updates: bool) -> None:
        """Write the last checkpoint; the record that the model gets now is not a part of it."""
        if is_between_updates:
            self._finish(training)
        self._is_finished = True  # else what callbacks know may be wrong, and the checkpoint before stays

    def after_training(self, training: Training) -> None:
        """Write the last checkpoint."""
        self._finish(training)

    def _finish(self, training: Training) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self._wait()
        self._begin(training)
        self._wait()

    def _begin(self, training: Training) -> None:
        """Begin to write a checkpoint, in a thread: a disk that hangs does not hang what waits for it."""
        with self._failures_told(training):
            arguments = training, *self._content(training)
            thread = Thread(target=self._write, args=arguments, name="fastrnn checkpoint", daemon=True)
            thread.start()
            self._thread = thread

    def _wait(self) -> None:
        """Wait for a checkpoint that is being written; a second Ctrl-C ends this."""
        if self._thread is not None:
            self._thread.join()

    def _content(self, training: Training) -> tuple[Arrays, NDArray[Any]]:
        """What a checkpoint holds, copied so that training can go on: its state, and the model's weights."""
        now, best = training.model.network.flat, None if self._best is None else self._best.weights
        weights = memory.lasting(now.size, now.dtype)
        weights[...] = now if best is None else best
        return training.snapshot(), weights

    def _write(self, training: Training, arrays: Arrays, weights: NDArray[Any]) -> None:
        """Write a checkpoint."""
        with self._failures_told(training):
            model = Model(
                training.model.network.with_parameters(weights),
                training.model.vocabulary,
                training.model.counts,
                training.model.settings,
                History.of_columns(below("history", arrays)),
            )
            write_atomically(self._path, CheckpointFile(self._about, arrays, model.to_bytes()).to_bytes())
            training.saved = int(arrays["trainer.updates"] + arrays.get("refit.updates_before", 0))

    @contextmanager
    def _failures_told(self, training: Training) -> Iterator[None]:
        """Log that a file, memory or a thread failed, or that no file can hold the model; each kind once."""
        try:
            yield
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            kind = type(error), getattr(error, "errno", None)
            saved = training.saved
            before = "there is none" if saved is None else f"the one of update {saved:,} stays"
            if kind not in self._failures:
                logger.warning("a checkpoint could not be written (%s): %s; training goes on", error, before)
            self._failures.add(kind)


class Resumption:
    """The checkpoint with which a training goes on, if there is one, and what is said of it in the next ones.

    Parameters
    ----------
    path
        The file.
    resume
        Whether to go on with it, if it exists.
    config, generator
        The settings of the training, and its generator, which has drawn nothing yet.
    is_seeded
        Whether the caller gave the generator or its seed; it must then be the same.

    Raises
    ------
    FileExistsError
        There is a file, and it is not to be resumed.
    CheckpointError, OSError
        It cannot be read, it is of another training, or no file can be written there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        resume: bool,
        config: TrainingConfig,
        generator: Generator,
        is_seeded: bool,
    ) -> None:
        self._path, self._found = path, _find(path, resume=resume)
        if self._found is not None and not is_seeded:
            _set_state(generator, self._found.about["rng"])
        self._config = config
        self._about = {
            "fastrnn": VERSION,
            "settings": checked_settings(config.describe()),
            "rng": _state(generator),
        }
        self._require_same()

    @property
    def config(self) -> TrainingConfig:
        """The settings, with those that were chosen when the training of the checkpoint began.

        Raises
        ------
        CheckpointError
            The checkpoint does not have them.
        """
        if self._found is None:
            return self._config
        try:
            chosen = {name: self._found.about["chosen"][name] for name in self._config.open_settings}
            return replace(self._config, **chosen)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self._path} does not have the settings that were chosen") from error

    def add_text(self, training: Training, texts: dict[str, Sequence]) -> None:
        """Take what is trained on and held out, or validated on as a text of its own, by name.

        Raises
        ------
        CheckpointError
            The checkpoint is of another text.
        MemoryError
            The memory that writing takes is not available.
        """
        self._about["chosen"] = {name: getattr(training.config, name) for name in self._config.open_settings}
        vocabulary = training.model.vocabulary
        self._about["reading"] = [vocabulary.newlines, vocabulary.normalization]
        self._about["vocabulary"] = _digest(vocabulary)
        own = texts.get("validation")
        self._about["text"] = fingerprint([text for text in texts.values() if text is not own])
        if own is not None:
            self._about["validation"] = fingerprint([own])
        self._require_same()
        trainer = training.trainer
        state = 1 + trainer.optimizer.moments + (trainer.averaging is not None)
        vectors = 4 * state + 4  # the state, the last good one, two models, and the file with all of them
        memory.require(
            vectors * trainer.network.flat.nbytes, f"checkpoints of {trainer.network.flat.size:,} parameters"
        )

    def writer(self, pace: float, best: BestWeights | None) -> Checkpoints:
        """What writes the next checkpoints."""
        return Checkpoints(self._path, pace, self._about, best)

    def restore(self, training: Training) -> None:
        """Let a training go on, if there is a checkpoint."""
        if self._found is not None:
            training.restore(self._found.arrays)
            training.saved = training.updates
            logger.info("going on with %s from update %s", self._path, f"{training.updates:,}")

    def _require_same(self) -> None:
        """Require that what is known so far of this training is what the checkpoint says."""
        if self._found is None:
            return
        then, now = self._found.about, self._about
        for name, value in now["settings"].items():
            if name not in then["settings"] or then["settings"][name] != value:
                raise CheckpointError(
                    f"{self._path} was made with {name}={shown(then['settings'].get(name))}, and this "
                    f"training has {name}={shown(value)}: give the same settings, or another checkpoint"
                )
        for key, what in COMPARED.items():
            if key in now and then.get(key) != now[key]:
                raise CheckpointError(
                    f"{self._path} was made with another {what}: give the same, or another checkpoint"
                )
        if then["fastrnn"] != VERSION and "text" in now:
            logger.warning(
                "%s was made by fastrnn %s, and this is %s: the result may differ in its last bits",
                self._path, then["fastrnn"], VERSION,
            )  # fmt: skip


def _find(path: str | os.PathLike[str], *, resume: bool) -> CheckpointFile | None:
    """Read the checkpoint that is to be resumed; ``None`` if there is none yet."""
    require_place(path)
    if not Path(path).exists():
        if resume:
            logger.info("there is no checkpoint %s yet: training begins", os.fspath(path))
        return None
    if not resume:
        raise FileExistsError(
            f"checkpoint {os.fspath(path)} exists: resume=True (--resume) goes on with it; or remove it"
        )
    return CheckpointFile.read(path)


def _set_state(generator: Generator, state: Any) -> None:
    """Give a generator the state with which the training of a checkpoint began."""
    try:
        if isinstance(generator, np.random.RandomState):
            generator.set_state(state)
        else:
            generator.bit_generator.state = state
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            "the checkpoint was made with another kind of rng: give the same one as at its beginning"
        ) from error


def _state(generator: Generator) -> Any:
    """The state of a generator as values that JSON has."""
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return _plain(generator.bit_generator.state)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _digest(vocabulary: Vocabulary) -> str:
    """A hash of the symbols of a vocabulary and of their names."""
    names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
    about = (vocabulary.unit, vocabulary.boundary, vocabulary.unknown, names)
    return sha256(repr((about, vocabulary.symbols.tolist())).encode()).hexdigest()


def fingerprint(texts: list[Sequence]) -> str:
    """SHA-256 of the ids of some sequences, read in parts."""
    digest = sha256()
    for text in texts:
        digest.update(len(text).to_bytes(8, "little"))
        for start in range(0, len(text), HASHED_AT_ONCE):
            ids = text.read(start, min(start + HASHED_AT_ONCE, len(text)))
            digest.update(np.ascontiguousarray(ids, "<i4").data)
    return digest.hexdigest()
