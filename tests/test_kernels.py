"""Every kernel of the compiled backends against the reference, over sizes that find edges."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from contract import Argument, Kernel, kernels
from helpers import SIZES, assert_close
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn.backends import get_backend

#: The kernels of one layer or one vector; those of a whole network are tested through `Network`.
SMALL = [kernel for kernel in kernels() if not kernel.name.startswith(("network", "train"))]

DTYPES = {
    "double": np.float64,
    "int32_t": np.int32,
    "uint8_t": np.uint8,
    "int64_t": np.int64,
}


def draw_array(argument: Argument, shape: tuple[int, ...], V: int, real: Any, rng: Any) -> Any:
    """Random values of the kind that the argument's name stands for."""
    dtype = real if argument.c_type == "real" else DTYPES[argument.c_type]
    if argument.name == "ids":
        return rng.integers(0, V, shape).astype(dtype)
    if argument.name == "targets":
        return rng.integers(-1, V, shape).astype(dtype)
    if argument.name == "starts":
        return (rng.random(shape) < 0.3).astype(dtype)
    if argument.name == "x" and argument.shape == ("n",):
        return rng.uniform(0.5, 2, shape).astype(dtype)  # within the range of a logarithm
    if argument.name == "moments":
        return rng.uniform(0.1, 1, shape).astype(dtype)
    if argument.name == "settings":
        return np.broadcast_to([0.05, 0.9, 0.99, 1e-8, 0.7], shape).copy()
    if argument.name == "weight_hh":  # a larger one makes the recurrence chaotic, which amplifies rounding
        return (rng.standard_normal(shape) / (2 * np.sqrt(shape[0]))).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def draw_arguments(kernel: Kernel, size: dict[str, int], real: Any, seed: int) -> list[Any]:
    """Random arguments for a kernel, from the shapes that the header states."""
    rng = np.random.default_rng(seed)
    size = {"function": seed % 4, "0": 0, "1": 1, "2": 2, "FR_SETTINGS": 5, "FR_BLOCK": 256, **size}
    arguments: list[Any] = []
    for argument in kernel.arguments:
        if argument.is_array:
            size = {**size, **{f"{letter}32": -(-n // 32) * 32 for letter, n in size.items()}}
            shape = tuple(size[letter] for letter in argument.shape) or (100,)  # a flat workspace
            arguments.append(draw_array(argument, shape, size["V"], real, rng))
        elif argument.c_type == "double":
            arguments.append(0.7)
        else:
            arguments.append(size[argument.name])
    return arguments


def compare(kernel: Kernel, backend: str, size: dict[str, int], seed: int) -> None:
    """The kernel's outputs in float64 to 1e-10 of the reference's, and in float32 to 1e-4."""
    for real, tolerance in ((np.float64, 1e-10), (np.float32, 1e-4)):
        arguments = draw_arguments(kernel, size, real, seed)
        fast = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        exact = [
            a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == real else a for a in arguments
        ]
        getattr(get_backend("numpy"), kernel.name)(*exact)
        getattr(get_backend(backend), kernel.name)(*fast)
        for argument, actual, expected in zip(kernel.arguments, fast, exact, strict=True):
            if argument.is_array and not argument.is_input and "scratch" not in argument.note:
                assert_close(actual, expected, tolerance, f"{kernel.name}'s {argument.name} at {size}")


letters = ["T", "B", "V", "H", "N", "I", "O", "n"]


@pytest.mark.parametrize("kernel", SMALL, ids=lambda kernel: kernel.name)
@given(
    size=st.fixed_dictionaries({letter: st.sampled_from(SIZES) for letter in letters}),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kernel_matches_the_reference(kernel: Kernel, compiled: str, size: dict[str, int], seed: int):
    compare(kernel, compiled, size, seed)


@pytest.mark.parametrize("kernel", SMALL, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("size", [1, 127, 128, 129])
def test_kernel_matches_the_reference_at_tiles(kernel: Kernel, compiled: str, size: int):
    compare(kernel, compiled, dict.fromkeys(letters, size) | {"T": min(size, 9)}, seed=size)


@pytest.mark.parametrize(
    "name",
    ["gather_forward", "gather_gradients", "linear_gradients", "cross_entropy", "clip_value", "clip_norm"],
)
def test_no_rows_are_nothing_to_do(name: str, backend: str):
    kernel = next(kernel for kernel in kernels() if kernel.name == name)
    size = defaultdict(lambda: 3, N=0, n=0)
    arguments = draw_arguments(kernel, {letter: size[letter] for letter in letters}, np.float64, 0)
    before = [a.copy() for a in arguments if isinstance(a, np.ndarray)]
    getattr(get_backend(backend), name)(*arguments)
    after = [a for a in arguments if isinstance(a, np.ndarray)]
    for old, new in zip(before, after, strict=True):
        if name != "clip_norm":  # it writes the norm, which is 0
            np.testing.assert_array_equal(new, old)


def test_softmax_of_huge_logits_is_stable(backend: str):
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
    losses, gradients = np.empty(2), np.empty((2, 3))
    get_backend(backend).cross_entropy(losses, gradients, logits, np.array([1, 2], np.int32), 1.0, 2, 3)
    assert_close(losses, [1e4, np.log(3)], 1e-15)
    assert_close(gradients, [[1, -1, 0], [1 / 3, 1 / 3, -2 / 3]], 1e-15)


def test_a_masked_target_has_no_loss_and_no_gradient_even_beside_nan(backend: str):
    logits = np.array([[np.nan, 0.0], [1.0, 1.0]])
    losses, gradients = np.empty(2), np.empty((2, 2))
    get_backend(backend).cross_entropy(losses, gradients, logits, np.array([-1, 0], np.int32), 1.0, 2, 2)
    assert losses[0] == 0
    assert (gradients[0] == 0).all()


def test_clip_value_keeps_nan_and_infinite_limits_change_nothing(backend: str):
    gradients = np.array([np.nan, -7.0, 7.0, 0.5])
    get_backend(backend).clip_value(gradients, 5.0, 4)
    np.testing.assert_array_equal(gradients, [np.nan, -5, 5, 0.5])
    get_backend(backend).clip_value(gradients, np.inf, 4)
    np.testing.assert_array_equal(gradients, [np.nan, -5, 5, 0.5])


def test_clip_norm_scales_only_what_is_longer(backend: str):
    norm, gradients = np.empty(1), np.array([3.0, 4.0])
    get_backend(backend).clip_norm(norm, gradients, 10.0, 2)
    assert norm[0] == 5
    np.testing.assert_array_equal(gradients, [3, 4])
    get_backend(backend).clip_norm(norm, gradients, 1.0, 2)
    assert_close(gradients, [0.6, 0.8], 1e-15)


def test_c_refuses_wrong_dtypes_and_memory():
    c = get_backend(require_backend("c"))
    with pytest.raises(TypeError, match="float32 or float64"):
        c.clip_value(np.zeros(3, np.int32), 1.0, 3)
    with pytest.raises(TypeError, match="int32"):
        c.gather_gradients(np.zeros((2, 2)), np.zeros((1, 2)), np.zeros(1, np.int64), 1, 2, 2)
    with pytest.raises(ValueError, match="contiguous"):
        c.clip_value(np.zeros(6)[::2], 1.0, 3)
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        c.clip_value(fixed, 0.5, 3)


@pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.name)
def test_negative_sizes_are_refused_before_anything_is_read(kernel: Kernel, backend: str):
    size = dict.fromkeys([*letters, "S", "W", "M", "optimizer", "mean", "first"], 1)
    for letter in [a.name for a in kernel.arguments if len(a.name) == 1 and a.name in size]:
        arguments = draw_arguments(kernel, size, np.float64, 0)
        arguments[[a.name for a in kernel.arguments].index(letter)] = -1
        with pytest.raises(RuntimeError, match="a size is out of range"):
            getattr(get_backend(backend), kernel.name)(*arguments)


@pytest.mark.parametrize("name", ["gather_forward", "gather_gradients", "cross_entropy"])
@pytest.mark.parametrize("symbol", [-2, 3, 2**31 - 1])
def test_symbols_outside_the_vocabulary_are_refused(name: str, symbol: int, backend: str):
    kernel = next(kernel for kernel in kernels() if kernel.name == name)
    arguments = draw_arguments(kernel, dict.fromkeys(letters, 3), np.float64, 0)
    for argument, value in zip(kernel.arguments, arguments, strict=True):
        if argument.name in ("ids", "targets"):
            value[1] = symbol
    with pytest.raises(RuntimeError, match="a symbol's id is outside the vocabulary"):
        getattr(get_backend(backend), name)(*arguments)
