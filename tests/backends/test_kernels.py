"""Every kernel of the compiled backends is compared with the reference, at sizes that are edge cases."""

from __future__ import annotations

import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import SIZES, assert_close
from helpers.contract import Argument, Kernel, call, constant, kernels
from helpers.counts import empty_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn.backends.registry import get_backend
from fastrnn.core.cells import KINDS
from fastrnn.core.constants import ABORT, ABORTED, ARRIVED, BAD_SIZE, BAD_SYMBOL, MAX_NR, STATUS
from fastrnn.core.layout import Shape, parameter_layout
from fastrnn.core.plan import Split, forward_plan, reading_plan, step_plan, window_plan

#: The kernels of one layer or one vector. `Network` is used to test those of a whole network; those of counts
#: have tests of their own.
SMALL = [
    kernel
    for kernel in kernels()
    if not kernel.name.startswith(("network", "train", "sample", "pack"))
    and not any(argument.name == "C" for argument in kernel.arguments)
]

#: The ranges of arguments that are uniform random numbers.
UNIFORM = {"moments": (0.1, 1), "probabilities": (0, 1), "squares": (0, 1), "uniforms": (0, 1)}

DTYPES = {
    "double": np.float64,
    "int32_t": np.int32,
    "uint8_t": np.uint8,
    "int64_t": np.int64,
}


def whole_size(size: dict[str, int]) -> dict[str, int]:
    """Sizes by every name that shapes of the header have: 3H, 4Hp, SETTINGS and so on."""
    size = {**size, **{f"{len(cell.gates)}H": len(cell.gates) * size["H"] for cell in KINDS.values()}}
    size |= {f"{letter}p": -(-n // MAX_NR) * MAX_NR for letter, n in size.items()}
    size["B+1"] = size["B"] + 1
    if "F" in size:
        size["F+1"] = size["F"] + 1
        size |= {f"U({letter})": 1 << (2 * size[letter] - 1).bit_length() for letter in "CY"}
    if "D" in size:
        size["D+n"] = size["D"] + size["n"]
    return {"0": 0, "1": 1, "2": 2, **size}


def shape_of(argument: Argument, size: dict[str, int]) -> tuple[int, ...]:
    """The shape of an array in numbers; the size of a flat array is found by its name."""
    dimensions = (size[part] if part in size else constant(part) for part in argument.shape)
    return tuple(dimensions) or (size[argument.name],)


def draw_array(argument: Argument, shape: tuple[int, ...], size: dict[str, int], real: Any, rng: Any) -> Any:
    """Random values that are valid for the argument with this name."""
    V, dtype = size["V"], real if argument.c_type == "real" else DTYPES[argument.c_type]
    if argument.name in {"ids", "inputs", "symbols"}:
        return rng.integers(0, V, shape).astype(dtype)
    if argument.name in {"places", "transitions", "distances"}:
        lowest = -1 if argument.name == "transitions" else 0
        return rng.integers(lowest, max(1, size["Q"]), shape).astype(dtype)
    if argument.name.endswith(("nodes", "slots", "contexts", "table")):
        return empty_of(argument.name, shape, dtype)
    if argument.name in UNIFORM:
        return rng.uniform(*UNIFORM[argument.name], shape).astype(dtype)
    if argument.name == "targets":
        return rng.integers(-1, V, shape).astype(dtype)
    if argument.name == "starts":
        return (rng.random(shape) < 0.3).astype(dtype)
    if argument.name == "x" and argument.shape == ("n",):
        return rng.uniform(0.5, 2, shape).astype(dtype)  # within the range of a logarithm
    if argument.name == "ranges":
        return np.sort(rng.integers(0, size["P"] + 1, shape).ravel()).reshape(shape)
    if argument.name == "settings":
        # the second setting is the momentum of sgd, which has no moments if it is 0
        row = [0.05, 0.9 if size["M"] else 0.0, 0.99, 0.3, 0.7, 0.95]
        return np.broadcast_to(row, shape).copy()
    return rng.standard_normal(shape).astype(dtype)


def plan_of(
    kernel: Kernel, shape: Shape, T: int, B: int, split: Split, rate: float
) -> tuple[Any, dict[str, int]]:
    """The plan for a kernel of a whole network, and the sizes of its flat arrays."""
    size = {"P": parameter_layout(shape).size, "Z": shape.Z, "L": shape.L, "V": shape.V, "H": shape.H}
    if kernel.name in {"network_prepare", "network_step", "sample"}:
        plan, prepared = step_plan(shape, B, split)
        return plan.numbers, {**size, "scratch": plan.size, "prepared": prepared}
    if kernel.name == "network_read":
        plan, prepared = reading_plan(shape, T, B, split)
        return plan.numbers, {**size, "scratch": plan.size, "prepared": prepared}
    if kernel.name in {"network_forward", "network_losses"}:
        plan = forward_plan(shape, T, B, split)
    else:
        plan = window_plan(shape, T, B, split, dropout=rate > 0)
    return plan.numbers, {**size, "workspace": plan.size}


def draw_arguments(
    kernel: Kernel, size: dict[str, int], real: Any, seed: int, shape: Shape | None = None, parts: int = 1
) -> list[Any]:
    """Random arguments for a kernel, from the shapes that the header states.

    ``shape`` is that of a whole network. ``size`` has the sizes of letters, and values of arguments.
    """
    rng = np.random.default_rng(seed)
    numbers = {
        "function": seed % 4,
        **dict.fromkeys(("carried", "transposed", "relu"), seed % 2),
        "part": 0,
        "parts": 1,
        "M": 1,
        "A": 1,
        "R": 2,
        "reduction": 0,
        "optimizer": 0,
        "dropout_seed": 7 * seed,
        "update": seed,
        "first_update": seed,
        "layer": seed % 3,
        "first": seed % 5,
        "dropout": 0.7,
        "input_dropout": 0.2,
        "D": seed % 4,
        "Q": seed % 5,
        "top_k": 1 + seed % 6,
        "top_p": 1 - seed % 3 / 8,
        "min_p": seed % 2 / 9,
        "penalty": 1.3,
        "window": seed % 3,
        "ngram": seed % 4,
        "room": 9,
        "learns": seed % 2,
        "least": seed,
        "stop_symbol": 0,
    }
    size = {**numbers, **size}
    plan = None
    if any(argument.name == "plan" for argument in kernel.arguments):
        shape = shape or Shape("lstm", 2, size["V"], 0, size["H"], tied=False)
        split = Split(parts, by_columns=seed % 4 > 1)
        plan, sizes = plan_of(kernel, shape, size["T"], size["B"], split, size["dropout"])
        size = {**size, **sizes}
    if "n" in size:
        size = {"begin": 0, "end": size["n"], **size}
    size = whole_size(size)
    arguments: list[Any] = []
    for argument in kernel.arguments:
        if argument.name == "plan":
            arguments.append(plan)
        elif argument.is_array:
            dimensions = shape_of(argument, size)
            arguments.append(draw_array(argument, dimensions, size, real, rng))
        elif argument.c_type == "double":
            arguments.append(size.get(argument.name, 0.7))
        else:
            arguments.append(size[argument.name])
    return arguments


def run(kernel: Kernel, backend: str, arguments: list[Any], size: dict[str, int], parts: int) -> None:
    """Call a kernel for each part; the backend's own `pack` packs the weights."""
    implementation = get_backend(backend)
    arguments, size = list(arguments), whole_size(size)
    names = [argument.name for argument in kernel.arguments]
    for position, argument in enumerate(kernel.arguments):
        if argument.name == "packed":
            K, J = (size[letter.removesuffix("p")] for letter in argument.shape)
            weight = np.ascontiguousarray(arguments[position][:, :J])
            arguments[position] = np.full_like(arguments[position], np.nan)
            implementation.pack(
                packed=arguments[position], weight=weight, transposed=0, part=0, parts=1, K=K, J=J
            )
    first, last = ("begin", "end") if "begin" in names else ("part", "parts")
    if first not in names:
        parts = 1
    for part in range(parts):
        if first == "begin":
            n = size["n"]
            arguments[names.index(first)], arguments[names.index(last)] = (
                n * part // parts,
                n * (part + 1) // parts,
            )
        elif first in names:
            arguments[names.index(first)], arguments[names.index(last)] = part, parts
        call(implementation, kernel.name, arguments)


def compare(kernel: Kernel, backend: str, size: dict[str, int], seed: int) -> None:
    """Require that the outputs agree with the reference: in float64 to 1e-10, in float32 to 1e-4."""
    for real, tolerance in ((np.float64, 1e-10), (np.float32, 1e-4)):
        arguments = draw_arguments(kernel, size, real, seed)
        fast = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        exact = [
            a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == real else a for a in arguments
        ]
        run(kernel, "numpy", exact, size, 1)
        run(kernel, backend, fast, size, 1 + seed % 3)
        for argument, actual, expected in zip(kernel.arguments, fast, exact, strict=True):
            if argument.role in {"output", "updated", "added"}:
                assert_close(actual, expected, tolerance, f"{kernel.name}'s {argument.name} at {size}")


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize(("K", "J"), [(1, 1), (3, 31), (2, 33), (300, 70)])
def test_a_packed_matrix_is_the_right_operand(K: int, J: int, parts: int, transposed: int, backend: str):
    rng = np.random.default_rng(0)
    B, x, zeros = rng.standard_normal((K, J)), rng.standard_normal((5, K)), np.zeros(J)
    packed, y = np.full((K, -(-J // MAX_NR) * MAX_NR), np.nan), np.empty((5, J))
    for part in range(parts):
        weight = np.ascontiguousarray(B.T if transposed else B)
        get_backend(backend).pack(
            packed=packed, weight=weight, transposed=transposed, part=part, parts=parts, K=K, J=J
        )
    get_backend(backend).linear_forward(y=y, x=x, packed=packed, bias=zeros, N=5, I=K, O=J)
    assert_close(y, x @ B, 1e-12)


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


#: The kernels whose work is some rows, or the elements of a flat vector.
OF_ROWS = [kernel for kernel in SMALL if {"N", "n"} & {argument.name for argument in kernel.arguments}]


@pytest.mark.parametrize("kernel", OF_ROWS, ids=lambda kernel: kernel.name)
def test_no_rows_are_nothing_to_do(kernel: Kernel, backend: str):
    size = defaultdict(lambda: 3, N=0, n=0)
    arguments = draw_arguments(kernel, {letter: size[letter] for letter in letters}, np.float64, 0)
    before = [a.copy() for a in arguments if isinstance(a, np.ndarray)]
    call(get_backend(backend), kernel.name, arguments)
    after = [a for a in arguments if isinstance(a, np.ndarray)]
    for old, new in zip(before, after, strict=True):
        if kernel.name != "gradient_norm":  # it writes the norm, which is 0
            np.testing.assert_array_equal(new, old)


def test_softmax_of_huge_logits_is_stable(backend: str):
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
    losses, gradients = np.empty(2), np.empty((2, 3))
    get_backend(backend).cross_entropy(
        losses=losses,
        dlogits=gradients,
        logits=logits,
        targets=np.array([1, 2], np.int32),
        scale=1.0,
        N=2,
        V=3,
    )
    assert_close(losses, [1e4, np.log(3)], 1e-15)
    assert_close(gradients, [[1, -1, 0], [1 / 3, 1 / 3, -2 / 3]], 1e-15)


def test_a_masked_target_has_no_loss_and_no_gradient_even_beside_nan(backend: str):
    logits = np.array([[np.nan, 0.0], [1.0, 1.0]])
    losses, gradients = np.empty(2), np.empty((2, 2))
    get_backend(backend).cross_entropy(
        losses=losses,
        dlogits=gradients,
        logits=logits,
        targets=np.array([-1, 0], np.int32),
        scale=1.0,
        N=2,
        V=2,
    )
    assert losses[0] == 0
    assert (gradients[0] == 0).all()


def test_the_norm_is_that_of_the_clipped_gradient(backend: str):
    norm = np.empty(1)
    get_backend(backend).gradient_norm(norm=norm, grads=np.array([3.0, 40.0]), limit=4.0, n=2)
    assert norm[0] == 5
    get_backend(backend).gradient_norm(norm=norm, grads=np.array([3.0, -4.0]), limit=np.inf, n=2)
    assert norm[0] == 5
    get_backend(backend).gradient_norm(norm=norm, grads=np.array([np.nan, 1.0]), limit=4.0, n=2)
    assert np.isnan(norm[0])


def test_an_update_clips_and_then_scales(backend: str):
    params, moments = np.array([1.0, 1.0, 1.0]), np.empty((0, 3))
    settings = np.array([1.0, 0, 0, 0, 0, 0])
    gradients = np.array([-7.0, 0.5, 7.0])
    get_backend(backend).sgd_update(
        params=params,
        moments=moments,
        grads=gradients,
        settings=settings,
        limit=5.0,
        scale=0.5,
        begin=0,
        end=3,
        n=3,
    )
    np.testing.assert_array_equal(params, [3.5, 0.75, -1.5])


def test_momentum_looks_back_and_nesterov_s_ahead(backend: str):
    settings = {"classical": [1.0, 0.5, 0, 1, 0, 0], "nesterov": [1.0, 0.5, 1, 0.5, 0, 0]}
    for name, expected in (("classical", [-1.5, -4.25]), ("nesterov", [-1.75, -5.125])):
        params, moments, gradients = np.zeros(1), np.ones((1, 1)), np.array([1.0])
        found = []
        for gradients[0] in (1.0, 2.0):
            row = np.array(settings[name])
            get_backend(backend).sgd_update(
                params=params,
                moments=moments,
                grads=gradients,
                settings=row,
                limit=np.inf,
                scale=1.0,
                begin=0,
                end=1,
                n=1,
            )
            found.append(params[0])
        assert (moments[0, 0], found) == (2.75, expected)


def test_an_average_moves_to_the_parameters(backend: str):
    average, params = np.array([1.0, -2.0, 0.0]), np.array([3.0, 2.0, 0.5])
    for weight, expected in ((0.0, [1, -2, 0]), (0.25, [1.5, -1, 0.125]), (1.0, [3, 2, 0.5])):
        get_backend(backend).average_update(
            average=average, params=params, weight=weight, begin=0, end=3, n=3
        )
        np.testing.assert_array_equal(average, expected)


def test_an_average_that_fades_is_zero_rather_than_tiny(compiled: str):
    for dtype in (np.float32, np.float64):
        average, params = np.ones(37, dtype), np.zeros(37, dtype)
        for _ in range(600):
            get_backend(compiled).average_update(
                average=average, params=params, weight=0.5, begin=0, end=37, n=37
            )
        np.testing.assert_array_equal(average, 0)


#: The sizes of each kernel; vectors may be long.
BIT_CASES = [
    pytest.param(kernel, n, id=f"{kernel.name}-{n}")
    for kernel in SMALL
    for n in (1, 15, 16, 17, 35, *([1003] if "n" in (a.name for a in kernel.arguments) else []))
]


@pytest.mark.parametrize(("kernel", "n"), BIT_CASES)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_kernels_have_the_same_bits_in_c_and_numba(kernel: Kernel, real: Any, n: int):
    size = dict.fromkeys(letters, n)
    found = []
    for backend, parts in ((require_backend("c"), 1), (require_backend("numba"), 3)):
        arguments = draw_arguments(kernel, size, real, seed=n)
        for _ in range(5 if kernel.name.endswith("_update") else 1):
            run(kernel, backend, arguments, size, parts)
        found.append(
            [
                value.tobytes()
                for argument, value in zip(kernel.arguments, arguments, strict=True)
                if argument.role not in {"number", "scratch"}
            ]
        )
    assert found[0] == found[1]


def test_c_refuses_wrong_dtypes_and_memory():
    c = get_backend(require_backend("c"))
    with pytest.raises(TypeError, match="float32 or float64"):
        c.elementary(y=np.zeros(3, np.int32), x=np.zeros(3, np.int32), function=0, n=3)
    with pytest.raises(TypeError, match="int32"):
        c.embedding_gradients(
            dweight=np.zeros((2, 2)),
            dy=np.zeros((1, 2)),
            ids=np.zeros(1, np.int64),
            part=0,
            parts=1,
            N=1,
            V=2,
            O=2,
        )
    with pytest.raises(ValueError, match="contiguous"):
        c.elementary(y=np.zeros(6)[::2], x=np.zeros(3), function=0, n=3)
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        c.elementary(y=fixed, x=np.zeros(3), function=0, n=3)


@pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.name)
def test_negative_sizes_are_refused_before_anything_is_read(kernel: Kernel, backend: str):
    size = dict.fromkeys([*letters, "K", "J", "S", "W", "R", "M", "D", "Q", "F", "C", "Y", "first"], 1)
    for letter in [a.name for a in kernel.arguments if len(a.name) == 1 and a.name in size and a.name != "A"]:
        arguments = draw_arguments(kernel, size, np.float64, 0)
        arguments[[a.name for a in kernel.arguments].index(letter)] = -1
        with pytest.raises(RuntimeError, match=re.escape(STATUS[BAD_SIZE])):
            call(get_backend(backend), kernel.name, arguments)


@pytest.mark.parametrize(
    "name",
    ["embedding_forward", "embedding_gradients", "gather_forward", "gather_gradients", "cross_entropy"],
)
@pytest.mark.parametrize("symbol", [-2, 3, 2**31 - 1])
def test_symbols_outside_the_vocabulary_are_refused(name: str, symbol: int, backend: str):
    kernel = next(kernel for kernel in kernels() if kernel.name == name)
    arguments = draw_arguments(kernel, dict.fromkeys(letters, 3), np.float64, 0)
    for argument, value in zip(kernel.arguments, arguments, strict=True):
        if argument.name in ("ids", "targets"):
            value[1] = symbol
    with pytest.raises(RuntimeError, match=re.escape(STATUS[BAD_SYMBOL])):
        call(get_backend(backend), name, arguments)


SAMPLE = next(kernel for kernel in kernels() if kernel.name == "sample")


@given(
    size=st.fixed_dictionaries({letter: st.sampled_from(SIZES) for letter in "BVHn"}),
    D=st.integers(0, 5),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(list(KINDS)),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_samples_are_those_of_the_reference(
    compiled: str, size: dict[str, int], D: int, seed: int, kind: str
):
    """In float64 a uniform number is nearly never so near a border that rounding decides."""
    size = {**size, "T": 1, "D": D, "top_p": 1 - seed % 3 / 7}
    shape = Shape(kind, 1 + seed % 2, size["V"], 0, size["H"], tied=False)
    arguments = draw_arguments(SAMPLE, size, np.float64, seed, shape)
    arguments[[argument.name for argument in SAMPLE.arguments].index("barrier")][...] = 0
    found = []
    for backend in (compiled, "numpy"):
        own = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        named = dict(zip([argument.name for argument in SAMPLE.arguments], own, strict=True))
        plan = {name: named[name] for name in ("prepared", "params", "plan", "part", "parts")}
        get_backend(backend).network_prepare(**plan)
        call(get_backend(backend), "sample", own)
        found.append(named)
    for name in ("symbols", "inputs", "places"):
        np.testing.assert_array_equal(found[0][name], found[1][name], err_msg=name)


@pytest.mark.parametrize("name", ["symbols", "inputs", "places", "transitions"])
def test_a_sample_from_numbers_out_of_range_is_refused(name: str, backend: str):
    size = {**dict.fromkeys("TBVHn", 3), "D": 2, "Q": 3}
    for bad in (-2, 3):
        arguments = draw_arguments(SAMPLE, size, np.float64, 0)
        arguments[[argument.name for argument in SAMPLE.arguments].index(name)][1] = bad
        with pytest.raises(RuntimeError, match=re.escape(STATUS[BAD_SYMBOL])):
            call(get_backend(backend), "sample", arguments)


def test_a_barrier_that_a_worker_left_stays_closed(compiled: str):
    """All workers of a window pass a barrier or none does, so no worker updates its parameters alone."""
    kernel = next(kernel for kernel in kernels() if kernel.name == "train_windows")
    size = {**dict.fromkeys([*letters, "S", "W", "R"], 3), "A": 0, "P": 0, "first": 0}
    names = [argument.name for argument in kernel.arguments]
    given_first = draw_arguments(kernel, size, np.float32, 0, parts=2)
    given_second = list(given_first)
    given_first[names.index("part")], given_second[names.index("part")] = 0, 1
    given_first[names.index("parts")] = given_second[names.index("parts")] = 2
    barrier, params = (given_first[names.index(name)] for name in ("barrier", "params"))
    barrier[...] = 0
    before = params.copy()
    aborted = re.escape(STATUS[ABORTED])

    def work() -> None:
        with pytest.raises(RuntimeError, match=aborted):
            call(get_backend(compiled), kernel.name, given_first)

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(work)
        while barrier[ARRIVED] == 0 and not first.done():
            pass
        barrier[ABORT] = 1
        first.result()
    barrier[ABORT] = 0  # the second worker does not even know of it
    with pytest.raises(RuntimeError, match=aborted):
        call(get_backend(compiled), kernel.name, given_second)
    np.testing.assert_array_equal(params, before)
