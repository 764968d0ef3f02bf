"""The history behaves like a list of dicts, and stores columns of floats."""

from __future__ import annotations

import copy
import math
import pickle
import tracemalloc
from array import array
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.model.history import History

RECORDS = [
    {"step": 0, "loss": 2.5},
    {"step": 5, "loss": 1.5, "validation_loss": 2.0},
    {"step": 10, "loss": -0.0, "gradient_norm": math.inf},
]


@pytest.fixture
def history() -> History:
    return History(RECORDS)


def test_reads_as_the_list_of_its_records(history: History):
    assert len(history) == 3
    assert list(history) == RECORDS
    assert [history[i] for i in range(-3, 3)] == RECORDS * 2
    assert history[np.int64(1)] == RECORDS[1]
    assert list(reversed(history)) == RECORDS[::-1]
    assert RECORDS[1] in history
    assert history.index(RECORDS[2]) == 2
    assert [type(value) for value in history[1].values()] == [int, float, float]
    assert repr(history) == repr(RECORDS)
    assert bool(history)
    assert not History()


@pytest.mark.parametrize(
    "index", [slice(None), slice(1, None), slice(-2, 9), slice(None, None, -2), slice(2, 1)]
)
def test_a_slice_is_a_history_of_its_own(history: History, index: slice):
    part = history[index]
    assert isinstance(part, History)
    assert part == RECORDS[index]
    part.append({"step": 11, "loss": 1.0})
    assert history == RECORDS


@pytest.mark.parametrize("index", [3, -4, 1 << 70])
def test_an_index_out_of_range_is_an_error(history: History, index: int):
    with pytest.raises(IndexError, match="history has 3 records, and no index"):
        history[index]


def test_is_equal_to_what_has_the_same_records(history: History):
    assert history == RECORDS
    assert RECORDS == history  # noqa: SIM300  (the list is on the left on purpose)
    assert history == History(RECORDS)
    assert history != RECORDS[:2]
    assert history != History(RECORDS[:2])
    assert history != History([*RECORDS[:2], {"step": 10, "loss": 0.5}])
    assert history != [*RECORDS[:2], {"step": 10, "loss": 0.0}]
    assert History() == []
    assert history != tuple(RECORDS)
    assert history[1:2] == history[1:2]
    with pytest.raises(TypeError, match="unhashable"):
        hash(history)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_a_copy_is_another(history: History, copied: Any):
    again = copied(history)
    again.append({"step": 20, "loss": 1.0, "other": 2.0})
    assert history == RECORDS
    assert again == [*RECORDS, {"step": 20, "loss": 1.0, "other": 2.0}]


def test_columns_have_nan_where_a_record_has_not_the_key(history: History):
    columns = history.columns()
    assert list(columns) == ["step", "loss", "validation_loss", "gradient_norm"]
    np.testing.assert_array_equal(columns["step"], [0.0, 5.0, 10.0])
    np.testing.assert_array_equal(columns["validation_loss"], [np.nan, 2.0, np.nan])
    assert History.of_columns(columns) == history
    assert list(history[:1].columns()) == ["step", "loss"]


def test_takes_any_real_numbers_as_floats():
    given = {"step": np.int32(3), "loss": np.float32(0.5), "a": 2, "b": Fraction(1, 4), "c": math.nan}
    assert History([given]) == [{"step": 3, "loss": 0.5, "a": 2.0, "b": 0.25}]
    assert History([{"step": -0.0, "loss": 1}]).columns()["step"].tobytes() == bytes(8)
    assert isinstance(History([{"step": 4.0, "loss": 1}])[0]["step"], int)


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        (3, TypeError, "history[3] is 3; it must be a dict of numbers"),
        ([("step", 0)], TypeError, "history[3] is [('step', 0)]; it must be a dict"),
        ({}, ValueError, "history[3] is {}; it must have 'step'"),
        ({"step": 1}, ValueError, "it must have 'loss'"),
        ({"loss": 1.0}, ValueError, "it must have 'step'"),
        ({"step": 1, "loss": math.nan}, ValueError, "it must have 'loss', which is not NaN"),
        ({"step": 1, "loss": math.inf}, ValueError, "history[3]['loss'] is inf; it must be finite"),
        ({"step": 1.5, "loss": 1.0}, ValueError, "history[3]['step'] is 1.5; it must be a whole number"),
        ({"step": -1, "loss": 1.0}, ValueError, "history[3]['step'] is -1"),
        ({"step": 1 << 53, "loss": 1.0}, ValueError, "history[3]['step'] is 9007199254740992"),
        ({"step": True, "loss": 1.0}, TypeError, "history[3]['step'] is True; it must be a number"),
        ({"step": 1, "loss": "1"}, TypeError, "history[3]['loss'] is '1'"),
        ({"step": 1, "loss": None}, TypeError, "history[3]['loss'] is None"),
        ({"step": 1, "loss": 1j}, TypeError, "history[3]['loss'] is 1j"),
        ({"step": 1, "loss": np.zeros(2)}, TypeError, "history[3]['loss'] is array"),
        (
            {"step": 1, "loss": 1.0, "a": (1 << 60) + 1},
            ValueError,
            "['a'] is 1152921504606846977, which is no",
        ),
        ({"step": 1, "loss": 1.0, "a": 10**400}, ValueError, "which is not a float64"),
        ({"step": 1, "loss": 1.0, "a": Fraction(1, 3)}, ValueError, "which is not a float64"),
        ({"step": 1, "loss": 1.0, 2: 1.0}, TypeError, "history[3] has the key 2; it must be str"),
        ({"step": 1, "loss": 1.0, "\ud800": 1.0}, ValueError, "key '\\ud800', which has a lone surrogate"),
    ],
)
def test_a_record_that_is_none_is_refused_and_changes_nothing(
    history: History, record: Any, error: type, message: str
):
    with pytest.raises(error) as caught:
        history.append(record)
    assert message in str(caught.value)
    assert history == RECORDS
    with pytest.raises(error):
        History([*RECORDS, record])


@pytest.mark.parametrize("records", [3, None, "step", {"step": 0, "loss": 1.0}])
def test_what_is_no_sequence_of_records_is_refused(records: Any):
    with pytest.raises(TypeError, match="history is .*; it must be a sequence of dicts"):
        History(records)


def test_an_append_that_was_interrupted_leaves_no_trace(history: History):
    """Ctrl-C may interrupt an append between two columns."""
    for column in list(history._columns.values())[:2]:
        column.append(7.0)
    history._columns["other"] = array("d", [math.nan] * 3 + [7.0])
    assert history == RECORDS
    assert list(history.columns()) == ["step", "loss", "validation_loss", "gradient_norm"]
    history.append({"step": 11, "loss": 1.0})
    assert history == [*RECORDS, {"step": 11, "loss": 1.0}]


def test_takes_the_memory_of_its_numbers():
    tracemalloc.start()
    history = History({"step": step, "loss": 1.0} for step in range(20_000))
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2 * 20_000 * 8 * 1.25
    assert peak < 2 * size
    assert repr(history) == "<History of 20,000 records, the last {'step': 19999, 'loss': 1.0}>"


def test_appending_does_not_copy_what_is_there():
    history = History([{"step": 0, "loss": 1.0}])
    column = history._columns["loss"]
    addresses = set()
    for step in range(50_000):
        history.append({"step": step, "loss": 1.0})
        addresses.add(column.buffer_info())
    moved = len({address for address, _ in addresses})
    assert moved < 300  # it grows by a fraction of its size, not by one


def test_a_model_has_one_and_takes_a_list():
    model = fastrnn.train("hello", hidden_size=2, steps=20, log_every=5, backend="numpy", rng=0)
    assert isinstance(model.history, History)
    assert [record["step"] for record in model.history] == [0, 5, 10, 15, 19]
    before = model.to_bytes()
    model.history = list(model.history)
    assert isinstance(model.history, History)
    assert model.to_bytes() == before
    model.history = RECORDS
    assert fastrnn.Model.from_bytes(model.to_bytes()).history == RECORDS
    with pytest.raises(TypeError, match="history is int"):
        model.history = 3


def test_keys_are_added_to_a_record(history: History):
    history.amend(1, {"held_out_loss": 1.25, "loss": 1.0})
    history.amend(-1, {"held_out_loss": 2.0, "left out": math.nan})
    assert list(history) == [
        RECORDS[0],
        {"step": 5, "loss": 1.0, "validation_loss": 2.0, "held_out_loss": 1.25},
        {**RECORDS[2], "held_out_loss": 2.0},
    ]
    np.testing.assert_array_equal(history.columns()["held_out_loss"], [np.nan, 1.25, 2.0])
    assert History.of_columns(history.columns()) == history
    history.append({"step": 11, "loss": 0.5})
    assert history[3] == {"step": 11, "loss": 0.5}
    for index, more, error in [
        (9, {}, IndexError),
        (0, {"loss": math.inf}, ValueError),
        (0, {1: 2}, TypeError),
    ]:
        with pytest.raises(error, match="history"):
            history.amend(index, more)
    assert len(history) == 4
