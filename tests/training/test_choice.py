"""The settings that are chosen for a text, a time and a machine."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.model.checkpoint_file import CheckpointFile
from fastrnn.training import choice
from fastrnn.training.choice import SIZES, Work, chosen, most_updates, operations_of_symbol
from fastrnn.training.presets import CHOSEN, PRESETS, TrainingConfig

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40

WORKS = st.builds(
    Work,
    symbols=st.integers(1, 10**10),
    vocab_size=st.integers(1, 50_000),
    operations=st.floats(1, 1e18),
)


@settings(deadline=None)
@given(work=WORKS, cell=st.sampled_from(["rnn", "gru", "lstm"]), num_layers=st.integers(1, 3))
def test_everything_is_chosen_and_more_work_gives_no_smaller_network(work: Work, cell: str, num_layers: int):
    config = chosen(TrainingConfig(cell=cell, num_layers=num_layers), work)
    assert not config.open_settings
    assert config.hidden_size in SIZES
    more = chosen(
        TrainingConfig(cell=cell, num_layers=num_layers), replace(work, operations=10 * work.operations)
    )
    assert more.hidden_size >= config.hidden_size
    assert more.learning_rate <= config.learning_rate
    assert more.dropout >= config.dropout or more.hidden_size > config.hidden_size


@settings(deadline=None)
@given(work=WORKS)
def test_the_chosen_updates_keep_to_the_operations(work: Work):
    config = chosen(TrainingConfig(), work)
    updates = most_updates(config, work, 64, 32)
    one = operations_of_symbol(config.network(work.vocab_size).shape) * 64 * 32
    assert updates == 1 or updates * one <= work.operations < (updates + 1) * one * (1 + 1e-9)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(903_468, 65, 1e13), (256, 64, 0.07, 0.007)),
        (Work(903_468, 65, 2.4e13), (384, 64, 0.14, 0.014 / 3)),
        (Work(2_639_180, 256, 1e14), (512, 64, 0.06, 0.0035)),
        (Work(133_633, 74, 1e13), (256, 64, 0.6, 0.007)),
        (Work(20_000, 74, 1e13), (64, 64, 0.0, 0.014)),
        (Work(10**9, 50_000, 1e13), (32, 32, 0.0, 0.014)),
    ],
)
def test_what_is_chosen_for_some_texts(work: Work, expected: tuple[int, int, float, float]):
    config = chosen(TrainingConfig(), work)
    found = (config.hidden_size, config.embedding_size, config.dropout, config.learning_rate)
    assert found == pytest.approx(expected)


def test_dropout_is_chosen_for_the_updates_that_are_given():
    work = Work(133_633, 74, 1e13)
    windows = 133_633 / (64 * 32)
    for passes, dropout in ((4, 0.0), (8, 0.24), (12, 0.48), (100, 0.6)):
        assert chosen(TrainingConfig(steps=round(passes * windows)), work).dropout == dropout
        assert chosen(TrainingConfig(steps=None, epochs=passes), work).dropout == dropout


def test_dropout_grows_with_the_weights_for_each_symbol():
    """As the root of their ratio, up to a highest one; a short text has none."""
    work, found = Work(200_000, 74, 1e14), []
    for size in (64, 128, 256, 512, 1024):
        config = chosen(TrainingConfig(hidden_size=size), work)
        ratio = config.network(74).shape.operations / 2 / work.symbols
        assert config.dropout == pytest.approx(min(0.6 * ratio**0.5, 0.6), abs=0.005)
        found.append(config.dropout)
    assert found == sorted(found)
    assert chosen(TrainingConfig(hidden_size=512), Work(49_999, 74, 1e14)).dropout == 0


def test_what_is_given_stays():
    given_ones = {"hidden_size": 7, "embedding_size": None, "dropout": 0.25, "learning_rate": 0.5}
    for names in itertools.chain.from_iterable(itertools.combinations(given_ones, n) for n in range(5)):
        config = chosen(TrainingConfig(**{name: given_ones[name] for name in names}), Work(10**6, 65))
        assert {name: getattr(config, name) for name in names} == {name: given_ones[name] for name in names}


def test_a_tied_head_has_the_size_of_the_embedding():
    work = Work(10**6, 65)
    assert chosen(TrainingConfig(tied=True, embedding_size=24), work).hidden_size == 24
    assert chosen(TrainingConfig(tied=True, hidden_size=24), work).embedding_size == 24
    both = chosen(TrainingConfig(tied=True), work)
    assert both.hidden_size == both.embedding_size


def test_tokens_have_a_large_embedding_and_characters_a_small_one():
    characters, tokens = (chosen(TrainingConfig(), Work(10**6, V)) for V in (65, 50_000))
    assert characters.embedding_size == choice.EMBEDDING_SIZE
    assert tokens.embedding_size == tokens.hidden_size


def test_a_preset_leaves_nothing_open():
    assert not any(config.open_settings for config in PRESETS.values())


def test_without_a_time_limit_the_speed_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "operations_per_second", None)
    model = fastrnn.train(TEXT, steps=2, rng=0, progress=False)
    assert model.settings["hidden_size"] in SIZES
    given_ones = {"hidden_size": 4, "embedding_size": 3, "dropout": 0, "learning_rate": 0.1}
    fastrnn.train(TEXT, time_limit=0.01, progress=False, **given_ones)


def test_a_faster_machine_gets_a_larger_network(monkeypatch: pytest.MonkeyPatch):
    sizes = []
    for speed in (1e6, 1e12, 1e14):
        monkeypatch.setattr(choice, "operations_per_second", lambda *_, speed=speed: speed)
        model = fastrnn.train(TEXT, time_limit=0.05, rng=0, progress=False)
        sizes.append(model.settings["hidden_size"])
        assert model.settings["time_limit"] == 0.05
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_what_was_chosen_can_be_given_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "operations_per_second", lambda *_: 1e9)
    model = fastrnn.train(TEXT, time_limit=0.2, rng=0, progress=False)
    names = (*CHOSEN, "steps")
    again = fastrnn.train(
        TEXT, time_limit=0.2, rng=0, progress=False, **{name: model.settings[name] for name in names}
    )
    assert again.settings == model.settings


def test_a_resumed_training_keeps_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = {"time_limit": 30.0, "rng": 0, "progress": False, "checkpoint": tmp_path / "run"}
    monkeypatch.setattr(choice, "operations_per_second", lambda *_: 1e9)
    stop = lambda: [StopAt(3)]  # noqa: E731
    first = fastrnn.train(TEXT, callbacks=stop(), **options)
    monkeypatch.setattr(choice, "operations_per_second", None)
    resumed = fastrnn.train(TEXT, callbacks=stop(), resume=True, **options)
    assert resumed.settings == first.settings


def test_a_checkpoint_without_the_choice_is_refused(tmp_path: Path):
    path = tmp_path / "run"
    options = {"steps": 2, "rng": 0, "progress": False, "checkpoint": path, "resume": True}
    fastrnn.train(TEXT, **options)
    found = CheckpointFile.read(path)
    del found.about["chosen"]
    path.write_bytes(found.to_bytes())
    with pytest.raises(fastrnn.CheckpointError, match="does not have the settings that were chosen"):
        fastrnn.train(TEXT, **options)


def test_the_speed_is_that_of_the_backend(backend: str):
    assert 1e7 < choice.operations_per_second(backend, 1, "float32") < 1e13


class StopAt(fastrnn.Callback):
    """Ends training after an update."""

    def __init__(self, update: int) -> None:
        self.every = update

    def after_updates(self, training, updates):
        return training.updates >= self.every


def test_the_last_size_is_taken_for_endless_work():
    assert chosen(TrainingConfig(), Work(10**12, 65, np.inf)).hidden_size == SIZES[-1]
