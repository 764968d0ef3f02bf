"""Hidden units, calibration and strange passages, beside counting."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers import assert_close
from helpers.report_models import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.report import features as properties
from fastrnn.report import passages, units
from fastrnn.report.calibration import Calibration, wilson
from fastrnn.report.charts import LossChart, horizontal, vertical
from fastrnn.report.excerpt import Excerpt
from fastrnn.report.features import features
from fastrnn.report.symbols import Sign
from fastrnn.report.trace import Forecast, Trace


def trace_with(
    bits: Any, entropy: Any = None, begins: Any = None, hidden: Any = None, top: Any = None, ids: Any = None
) -> Trace:
    """A trace with these arrays, and zeros elsewhere."""
    n = len(bits)
    forecast = Forecast(
        np.zeros((n, 1), np.int32),
        np.zeros((n, 1)) if top is None else np.array(top, float)[:, np.newaxis],
        np.zeros(n) if entropy is None else np.array(entropy, float),
        np.zeros(n, np.int64),
    )
    return Trace(
        np.zeros(n, np.int32) if ids is None else np.array(ids, np.int32),
        np.array(bits, float),
        np.array([0, n] if begins is None else begins),
        forecast,
        np.zeros((n, 1), np.float32) if hidden is None else np.array(hidden, np.float32),
    )


# ---- Properties and units ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("position in the line", "ab\ncd\n\ne", "01201200"),
        ("position in the word", "ab, Xé1", "1200120"),
        ("indentation of the line", "a\n \tb c\nd", "001222200"),
        ("inside brackets", "a(b[c]d)e)f(", "011111100001"),
        ("inside quotation marks", 'a"b"c“d”e"\nf\n\ng', "011001100111100"),
        ("upper-case letter", "aB C1", "01010"),
        ("letter", "aé1 _", "11000"),
        ("vowel", "abE", "101"),
        ("digit", "a1", "01"),
        ("space", "a b\n", "0100"),
        ("punctuation", "a.b\n ", "01000"),
        ("end of a line", "a\nb", "010"),
    ],
)
def test_properties(name: str, text: str, expected: str):
    assert properties.PROPERTIES[name](list(text)) == [float(c) for c in expected]


def test_units_are_those_with_the_largest_correlation():
    rng = np.random.default_rng(0)
    n = 500
    line, word = np.arange(n) % 37.0, (np.arange(n) % 5 == 0) * 1.0
    noise = rng.normal(size=(n, 6))
    hidden = 0.1 * noise
    hidden[:, 4] += line / 37
    hidden[:, 1] -= word
    hidden[:, 2] += 0.3 * word
    hidden[:, 5] = 0.25  # it never changes
    found = units.explained_units(hidden.astype(np.float32), {"line": line, "word": word}, hidden_size=3)
    assert [(unit.layer, unit.place, unit.feature) for unit in found] == [
        (1, 1, "word"),
        (2, 1, "line"),
        (1, 2, "word"),
    ]
    for unit, column, feature in zip(found, (1, 4, 2), (word, line, word), strict=True):
        assert unit.correlation == pytest.approx(np.corrcoef(hidden[:, column], feature)[0, 1], abs=1e-6)
        assert np.abs(unit.levels).max() == 4
        assert unit.levels[np.argmax(hidden[:, column])] == np.rint(
            4 * hidden[:, column].max() / np.abs(hidden[:, column]).max()
        )
        variances = [feature[k : k + units.PICTURE].var() for k in range(n - units.PICTURE + 1)]
        assert feature[unit.picture].var() == pytest.approx(max(variances))


def test_no_more_than_two_units_follow_one_property():
    feature = np.arange(200.0) % 7
    hidden = np.tile(feature[:, np.newaxis], (1, 20)).astype(np.float32)
    assert [unit.place for unit in units.explained_units(hidden, {"x": feature}, 20)] == [0, 1]
    assert units.explained_units(hidden[:99], {"x": feature[:99]}, 20) == []
    assert units.explained_units(hidden, {}, 20) == []


def test_properties_that_hardly_vary_are_left_out():
    text = "a" * 92 + "B" * 8 + "1" * 7
    signs = [Sign(c, c) for c in text]
    found = features(trace_with(np.zeros(len(text))), signs, "character")
    assert "upper-case letter" in found
    assert "digit" not in found
    assert "surprisal of the symbol" not in found


# ---- Calibration -------------------------------------------------------------------------------------


@given(seed=st.integers(0, 99), n=st.integers(0, 300))
@settings(max_examples=20, deadline=None)
def test_calibration_is_counted(seed: int, n: int):
    rng = np.random.default_rng(seed)
    top, ids = rng.choice([0.0, 0.05, 0.1, 0.31, 0.999, 1.0], n), rng.integers(-1, 2, n)
    found = Calibration.of(trace_with(np.zeros(n), top=top, ids=ids))
    known = [(p, symbol == 0) for p, symbol in zip(top, ids, strict=True) if symbol >= 0]
    assert found.count == len(known) == sum(one.count for one in found.bins)
    for one in found.bins:
        within = [(p, hit) for p, hit in known if one.low <= p < one.high or (p == one.high == 1)]
        assert one.count == len(within)
        assert one.predicted == pytest.approx(np.mean([p for p, _ in within]))
        assert one.came == pytest.approx(np.mean([hit for _, hit in within]))
        assert one.interval[0] - 1e-12 <= one.came <= one.interval[1] + 1e-12
    if known:
        assert found.came == pytest.approx(np.mean([hit for _, hit in known]))


def test_wilson_s_interval():
    """The values are those of statsmodels' proportion_confint(method="wilson")."""
    assert wilson(10, 100) == pytest.approx((0.05523, 0.17437), abs=1e-5)
    assert wilson(0, 5) == pytest.approx((0.0, 0.43449), abs=1e-5)


# ---- Strange passages --------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 60), max_size=4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_passages_are_the_strangest(lengths: list[int], seed: int):
    rng = np.random.default_rng(seed)
    begins = np.append(0, np.cumsum(lengths))
    n = int(begins[-1])
    bits, entropy = rng.exponential(3, n), rng.uniform(0, 5, n)
    bits[rng.random(n) < 0.05] = np.nan
    found = passages.strangest(trace_with(bits, entropy, begins))
    excess = np.nan_to_num(bits - entropy)
    free = np.ones(n, bool)
    windows = [
        (excess[k : k + size].sum(), k, k + size)
        for begin, end in itertools.pairwise(begins)
        for size in [min(passages.LENGTH, end - begin)]
        for k in range(begin, end - size + 1)
        if size
    ]
    for passage in found:
        best = max(sum_ for sum_, start, stop in windows if free[start:stop].all())
        assert passage.excess == pytest.approx(best)
        assert free[passage.start : passage.stop].all()
        free[passage.start : passage.stop] = False
        assert excess[passage.peak] == excess[passage.start : passage.stop].max()
        text = np.searchsorted(begins, passage.start, side="right") - 1
        assert begins[text] <= passage.context_start <= passage.start < passage.stop <= passage.context_stop
        assert passage.context_stop <= begins[text + 1]


# ---- Charts ------------------------------------------------------------------------------------------


@given(
    low=st.floats(-1e100, 1e100),
    width=st.sampled_from([0.0, 1e-300, 1e-9, 0.1, 1, 7, 1e6, 1e99]),
)
@settings(deadline=None)
def test_axes_have_a_few_ticks_in_their_range(low: float, width: float):
    axis = vertical(low, low + width)
    assert len(axis.ticks) <= 7
    for place, label in axis.ticks:
        assert min(axis.start, axis.stop) - 1 <= place <= max(axis.start, axis.stop) + 1
        assert len(label) <= 15
    assert len(horizontal(0, 1).ticks) == 6


def test_the_loss_chart_has_what_the_history_has():
    model = random_model(backend="numpy")
    assert LossChart.of(model) is None
    model.history = [
        {"step": 10 * k, "loss": 3.0 / (k + 1), **({"validation_loss": 2.0 + k} if k % 2 else {})}
        for k in range(1000)
    ]
    chart = LossChart.of(model)
    assert chart is not None
    assert [curve.name for curve in chart.curves] == ["training text", "held-out text"]
    assert_close([chart.curves[0].first, chart.curves[0].last], [3.0, 0.003], 1e-12)
    assert (chart.curves[1].first, chart.curves[1].lowest, chart.curves[1].last) == (3.0, 3.0, 1001.0)
    assert chart.curves[0].path.count("L") == 399
    for losses in ([5.0], [1e308, -1e308], [0.0, 0.0]):
        model.history = [{"step": k, "loss": loss} for k, loss in enumerate(losses)]
        assert "nan" not in LossChart.of(model).curves[0].path


def test_features_of_tokens():
    model = random_model("token", backend="numpy")
    trace = Trace.of(model, Excerpt.of(model.vocabulary, [1, 1, 2, 3] * 20), None)
    found = features(trace, [], "token")
    assert set(found) >= {"position in the text", "same token as before", "surprisal of the symbol"}
    np.testing.assert_array_equal(found["same token as before"][:5], [0, 1, 0, 0, 0])
