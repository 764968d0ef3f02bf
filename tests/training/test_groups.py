"""Frozen parameters, and factors of the learning rate and the weight decay by parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Window, assert_close

import fastrnn
from fastrnn import Network, Trainer
from fastrnn.errors import CheckpointError
from fastrnn.network import execution
from fastrnn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

OPTIMIZERS = [SGD(), SGD(momentum=0.9), Adagrad(), RMSprop(), Adam(), AdamW(weight_decay=0.3)]

GROUPS: dict[str, Any] = {
    "freeze": ["weight_hh_l0", "*_l1", "head.bias"],
    "learning_rate_factors": {"embedding.weight": 0.5, "head.*": 3.0},
}


def network(backend: str, dtype: str = "float64", **settings: Any) -> Network:
    settings = {"cell": "gru", "num_layers": 2, "embedding_size": 5, **settings}
    return Network(11, 7, backend=backend, dtype=dtype, rng=0, **settings)


def trained(made: Network, updates: int = 10, **settings: Any) -> Trainer:
    """A trainer after some updates, with clips and an average."""
    common = {"learning_rate": 0.02, "clip_value": 0.8, "clip_norm": 1.0, "averaging": 0.7}
    trainer = Trainer(made, **{**common, **settings})
    for seed in range(updates):
        window = Window.of(made, 7, 3, seed)
        trainer.step(window.inputs, window.targets, window.starts)
    return trainer


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_frozen_parameter_does_not_change_by_a_bit(backend: str, dtype: str, optimizer: Optimizer):
    made = network(backend, dtype)
    before = {name: array.copy() for name, array in made.parameters.items()}
    trainer = trained(made, 3, optimizer=optimizer, **GROUPS)
    moments = optimizer.initial_moments(made.flat.size, made.dtype)
    for name, array in made.parameters.items():
        is_frozen = name.endswith("_l1") or name in ("weight_hh_l0", "head.bias")
        assert np.array_equal(array, before[name]) == is_frozen, name
        averaged = trainer.averaged_network.parameters[name]
        assert np.array_equal(averaged, before[name]) == is_frozen, name
        for moment, first in zip(trainer._moments, moments, strict=True):
            kept, initial = (made.layout.views(flat)[name] for flat in (moment, first))
            assert np.array_equal(kept, initial) == is_frozen, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_groups_match_the_reference(compiled: str, optimizer: Optimizer):
    expected, actual = (
        trained(network(backend), optimizer=optimizer, **GROUPS) for backend in ("numpy", compiled)
    )
    tolerance = 1e-8 if isinstance(optimizer, Adagrad) else 1e-10
    assert_close(actual.network.flat, expected.network.flat, tolerance)
    assert_close(actual.averaged_network.flat, expected.averaged_network.flat, tolerance)
    assert_close(actual.gradient_norm, expected.gradient_norm, 1e-8)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(compiled: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execution, "MIN_WORK", 1)
    monkeypatch.setattr(execution, "MIN_ROWS", 1)
    alone, together = (
        trained(network(compiled, "float32", threads=n), optimizer="adam", **GROUPS) for n in (1, threads)
    )
    assert together.network.split(7, 3).parts == threads
    np.testing.assert_array_equal(together.network.flat, alone.network.flat)
    np.testing.assert_array_equal(together.averaged_network.flat, alone.averaged_network.flat)


def test_an_update_is_that_of_the_formula(backend: str):
    """The norm that is clipped is that of the gradients of what is trained."""
    made = network(backend)
    window = Window.of(made, 7, 3)
    before = {name: array.copy() for name, array in made.parameters.items()}
    _, gradients, _ = made.loss_and_gradients(window.inputs, window.targets, starts=window.starts)
    factors = {"embedding.weight": 0.0, "head.weight": 0.5}
    norm = np.sqrt(sum((g**2).sum() for name, g in gradients.items() if factors.get(name, 1)))
    trainer = Trainer(
        made,
        optimizer="sgd",
        learning_rate=0.1,
        clip_norm=1e-3,
        freeze=["embedding.*"],
        learning_rate_factors={"head.weight": 0.5},
    )
    trainer.step(window.inputs, window.targets, window.starts)
    assert_close(trainer.gradient_norm / norm, 1.0, 1e-12)
    for name, array in made.parameters.items():
        step = 0.1 * factors.get(name, 1) * gradients[name] * 1e-3 / norm
        assert_close(array, before[name] - step, 1e-13, name)


def test_weight_decay_of_a_group(backend: str):
    """With a gradient of zero, AdamW changes weights by their decay alone."""
    made = network(backend)
    made.flat[...] = 0.5
    factors = {"*bias*": 0.0, "weight_ih_l1": 2.0}
    trainer = Trainer(
        made, optimizer=AdamW(weight_decay=0.1), learning_rate=0.2, weight_decay_factors=factors
    )
    trainer.step([[0]], [[-1]])
    for name, array in made.parameters.items():
        factor = 0 if "bias" in name else 2 if name == "weight_ih_l1" else 1
        assert_close(array, np.full(array.shape, 0.5 * (1 - 0.2 * 0.1 * factor)), 1e-15, name)


def test_factors_of_one_change_nothing(compiled: str):
    plain = trained(network(compiled, "float32"), optimizer="adamw")
    cut = trained(
        network(compiled, "float32"),
        optimizer="adamw",
        learning_rate_factors={"bias*": 1.0},
        weight_decay_factors={"head.*": 1},
    )
    assert len(plain._ranges) == len(cut._ranges) == 1
    np.testing.assert_array_equal(cut.network.flat, plain.network.flat)


def test_frozen_parameters_may_be_written_before_the_first_update(backend: str):
    made = network(backend)
    trainer = Trainer(made, averaging=0.9, freeze=["head.*"])
    made.parameters["head.weight"][...] = 0.25
    trainer.step([[1, 2]], [[2, 3]])
    assert (trainer.averaged_network.parameters["head.weight"] == 0.25).all()


def test_a_tied_embedding_is_frozen_with_the_head(backend: str):
    made = network(backend, embedding_size=7, tied=True)
    before = made.parameters["embedding.weight"].copy()
    trained(made, 2, freeze=["embedding.weight"])
    np.testing.assert_array_equal(made.parameters["embedding.weight"], before)
    with pytest.raises(
        ValueError, match=r"freeze has 'head.weight', which matches no parameter; they are emb"
    ):
        Trainer(made, freeze=["head.weight"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"freeze": ["hed.*"]},
            ValueError,
            r"freeze has 'hed.\*', which matches no .*weight_ih_l0, .*head.bias",
        ),
        ({"freeze": "head.*"}, TypeError, r"freeze='head.\*' must be a list"),
        ({"freeze": [1]}, TypeError, "freeze has 1; a name"),
        ({"freeze": 1}, TypeError, "freeze=1 must be a list"),
        ({"freeze": ["*"]}, ValueError, r"freeze=\['\*'\] leaves no parameter to train"),
        ({"learning_rate_factors": {"x": 1}}, ValueError, "learning_rate_factors has 'x', which matches no"),
        (
            {"learning_rate_factors": {"*": 0}},
            ValueError,
            r"learning_rate_factors\['\*'\]=0 must be a finite",
        ),
        ({"learning_rate_factors": {"*": "1"}}, TypeError, r"learning_rate_factors\['\*'\]='1' must be"),
        ({"learning_rate_factors": {1: 1}}, TypeError, "learning_rate_factors has 1; a name"),
        ({"learning_rate_factors": ["*"]}, TypeError, "learning_rate_factors=.* must be a dict"),
        (
            {"learning_rate_factors": {"head.*": 1, "*bias*": 2}},
            ValueError,
            r"learning_rate_factors has two factors for head.bias: 'head.\*' and '\*bias\*' match it",
        ),
        (
            {"weight_decay_factors": {"*": 0.5}},
            ValueError,
            "needs an optimizer with weight decay, 'adamw', .*'adam'",
        ),
        (
            {"weight_decay_factors": {"*": -1}, "optimizer": "adamw"},
            ValueError,
            r"weight_decay_factors\['\*'\]=-1 must be",
        ),
    ],
)
def test_refuses_what_is_no_group(settings: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Trainer(Network(5, 4, backend="numpy"), **settings)
    with pytest.raises(error, match=message):  # before the text is read
        fastrnn.train(Path("there is no such file"), **settings)


def test_a_trainer_with_groups_can_be_pickled():
    import pickle

    trainer = Trainer(network("numpy"), optimizer="adamw", weight_decay_factors={"bias*": 0}, **GROUPS)
    again = pickle.loads(pickle.dumps(trainer))
    assert again.freeze == tuple(GROUPS["freeze"])
    assert again.learning_rate_factors == GROUPS["learning_rate_factors"]
    assert again.weight_decay_factors == {"bias*": 0.0}
    with pytest.raises(AttributeError, match="freeze of a Trainer cannot be set"):
        trainer.freeze = ()


def test_train_has_groups_in_its_settings_and_checkpoints(compiled: str, tmp_path: Path):
    settings: dict[str, Any] = {
        "hidden_size": 8,
        "steps": 20,
        "rng": 0,
        "backend": compiled,
        "progress": False,
        "optimizer": "adamw",
        "freeze": ["weight_hh*"],
        "learning_rate_factors": {"head.*": 0.1},
        "weight_decay_factors": {"bias*": 0},
    }
    text, path = "hello world " * 20, tmp_path / "run.checkpoint"
    whole = fastrnn.train(text, **settings)
    assert {name: whole.settings[name] for name in ("freeze", "learning_rate_factors")} == {
        "freeze": ["weight_hh*"],
        "learning_rate_factors": {"head.*": 0.1},
    }

    class End(fastrnn.Callback):
        every = 7

        def after_updates(self, training, updates):
            if training.updates >= 14:
                raise OSError

    with pytest.raises(OSError):
        fastrnn.train(text, **settings, checkpoint=path, checkpoint_every=7, callbacks=[End()])
    assert path.exists()
    resumed = fastrnn.train(text, **settings, checkpoint=path, checkpoint_every=7, resume=True)
    assert resumed.to_bytes() == whole.to_bytes()
    with pytest.raises(CheckpointError, match="made with freeze="):
        fastrnn.train(text, **{**settings, "freeze": []}, checkpoint=path, resume=True)
