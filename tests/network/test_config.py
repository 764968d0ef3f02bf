"""The configuration of a network: its checks and conversions."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest

from fastrnn import Network
from fastrnn.network.config import CHECKS, OPTIONS, NetworkConfig
from fastrnn.training.presets import AUTO, TrainingConfig


def test_its_fields_are_the_arguments_of_a_network_and_have_their_defaults():
    arguments = inspect.signature(Network).parameters
    for each in fields(NetworkConfig):
        if each.default is not MISSING:
            assert arguments[each.name].default == each.default
        assert each.name in CHECKS
    others = ["backend", "initialization", "threads", "rng"]
    assert list(arguments) == [*CHECKS, *others]


def test_a_training_has_its_fields_and_their_defaults():
    by_name = {each.name: each.default for each in fields(NetworkConfig)}
    config = TrainingConfig()
    assert {name: getattr(config, name) for name in OPTIONS if by_name[name] is not MISSING} == {
        **{name: by_name[name] for name in OPTIONS if by_name[name] is not MISSING},
        "cell": "gru",
        "embedding_size": AUTO,
        "dropout": AUTO,
    }
    assert config.hidden_size == AUTO
    chosen = replace(config, hidden_size=128, embedding_size=None, dropout=0.0)
    assert chosen.network(7) == NetworkConfig(7, 128, cell="gru")


def test_what_was_checked_is_plain():
    config = NetworkConfig(np.int64(7), np.int32(5), dropout=np.float32(0.5), dtype=np.dtype("<f8"))
    assert [type(value) for value in vars(config).values()] == [
        *(int, int, str, str, int, type(None), bool, float, float, str)
    ]
    assert config.dtype == "float64"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gru", "activation": "relu"}, "activation='relu' is for cell='rnn'"),
        ({"tied": True, "embedding_size": 4}, "tied=True needs embedding_size=4 to be hidden_size=5"),
        ({"num_layers": 1001}, "num_layers=1001 must be at most 1000"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(7, 5, **changes)
