"""fastrnn's exp, tanh, sigmoid and log: their errors in ulp, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.contract import constant

from fastrnn.backends.registry import get_backend

FUNCTIONS = ["exp", "tanh", "sigmoid", "log"]

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="there is no long double to compare with"
)


def compute(backend: str, name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    get_backend(backend).elementary(y=y, x=x, function=constant(name.upper()), n=x.size)
    return y


def exactly(name: str, x: np.ndarray) -> np.ndarray:
    """The function in long double."""
    x = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            return 1 / (1 + np.exp(-x))
        return getattr(np, name)(x)


def arguments(name: str, dtype: type) -> np.ndarray:
    """Millions of numbers of every size, also subnormal ones, and more where the function changes most."""
    bits = np.uint32 if dtype is np.float32 else np.uint64
    rng = np.random.default_rng(0)
    anything = rng.integers(0, np.iinfo(bits).max, 1_000_000, dtype=bits, endpoint=True).view(dtype)
    span = 110 if dtype is np.float32 else 760
    near = [rng.uniform(-limit, limit, 700_000).astype(dtype) for limit in (span, 3, 0.5)]
    x = np.concatenate([anything[np.isfinite(anything)], *near])
    return np.abs(x[x != 0]) if name == "log" else x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_below_two_and_a_half_units_in_the_last_place(compiled: str, name: str, dtype: type):
    x = arguments(name, dtype)
    actual, exact = compute(compiled, name, x), exactly(name, x)
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    unit = np.spacing(np.abs(rounded[finite])).astype(np.longdouble)
    errors = np.abs(actual[finite].astype(np.longdouble) - exact[finite]) / unit
    assert errors.max() <= 2.5, f"{errors.max():.3f} ulp at {x[finite][errors.argmax()]!r}"
    np.testing.assert_array_equal(actual[~finite], rounded[~finite])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("exp", {-np.inf: 0, np.inf: np.inf, 0: 1, -1e30: 0, 1e30: np.inf, np.nan: np.nan}),
        ("tanh", {-np.inf: -1, np.inf: 1, 0: 0, -1e30: -1, 1e30: 1, np.nan: np.nan}),
        ("sigmoid", {-np.inf: 0, np.inf: 1, 0: 0.5, -1e30: 0, 1e30: 1, np.nan: np.nan}),
        (
            "log",
            {np.inf: np.inf, 0: -np.inf, 1: 0, -1: np.nan, -np.inf: np.nan, np.nan: np.nan},
        ),
    ],
)
def test_limits_are_exact(compiled: str, name: str, limits: dict[float, float], dtype: type):
    x = np.array(list(limits), dtype)
    np.testing.assert_array_equal(compute(compiled, name, x), np.array(list(limits.values()), dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_is_odd_to_the_sign_of_zero_and_keeps_subnormals(compiled: str, dtype: type):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, tiny, 5 * tiny, 1e-3, 0.3, 2.0], dtype)
    y, minus_y = compute(compiled, "tanh", x), compute(compiled, "tanh", -x)
    np.testing.assert_array_equal(y, -minus_y)
    assert np.signbit(minus_y).all()
    np.testing.assert_array_equal(y[:3], x[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numba_and_c_give_the_same_bits(name: str, dtype: type):
    from conftest import require_backend

    x = arguments(name, dtype)
    found = [compute(require_backend(backend), name, x) for backend in ("numba", "c")]
    number = ~np.isnan(found[0])
    assert found[0][number].tobytes() == found[1][number].tobytes()
    np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(found[1]))
