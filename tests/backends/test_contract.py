"""The header, the reference and the compiled kernels state the same kernels, with the same arguments."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import require_backend
from helpers.contract import HEADER, Kernel, generator, kernels

import fastrnn
from fastrnn import optimizers
from fastrnn.backends import reference
from fastrnn.backends.registry import get_backend
from fastrnn.core import constants, layout, plan
from fastrnn.core.constants import CELL_NAMES, OPTIMIZER_NAMES, PLAN, PLAN_OF_LAYER, STATUS

NAMES = [kernel.name for kernel in kernels()]


@pytest.mark.parametrize("kernel", kernels(), ids=NAMES)
def test_reference_has_the_header_s_arguments(kernel: Kernel):
    actual = list(inspect.signature(getattr(reference, kernel.name)).parameters)
    assert actual == [argument.name for argument in kernel.arguments]


@pytest.mark.parametrize("kernel", kernels(), ids=NAMES)
def test_numba_has_the_header_s_arguments(kernel: Kernel):
    require_backend("numba")
    from fastrnn.backends import numba

    actual = list(inspect.signature(getattr(numba, kernel.name).py_func).parameters)
    assert actual == [argument.name for argument in kernel.arguments]


@pytest.mark.parametrize("kernel", kernels(), ids=NAMES)
def test_c_has_the_header_s_types(kernel: Kernel):
    require_backend("c")
    from fastrnn.backends import _c_baseline as module

    for suffix, real in (("_f32", "float"), ("_f64", "double")) if kernel.has_reals else (("", ""),):
        actual = module.ffi.typeof(getattr(module.lib, f"fr_{kernel.name}{suffix}")).args
        expected = [
            (real if argument.c_type == "real" else argument.c_type) + (" *" if argument.is_array else "")
            for argument in kernel.arguments
        ]
        assert [argument.cname for argument in actual] == expected


def test_no_backend_has_a_public_kernel_that_the_header_does_not_state():
    defined = [
        name
        for name, value in vars(reference).items()
        if inspect.isfunction(value) and value.__module__ == reference.__name__
    ]
    assert set(defined) - set(NAMES) == {
        *("one_hot", "sigmoid", "without", "philox", "kept", "dropout_mask", "bad_plan", "shape_of"),
        *("bad_ids", "bad_ranges", "is_frozen", "update", "penalized", "without_repeats", "filtered"),
        "next_symbol",
        *(
            "head_weight",
            "run",
            "run_head",
            "recurrence_forward",
            "recurrence_backward",
            "gradient_scale",
            "draw",
        ),
    }


def test_what_is_generated_is_what_the_header_says():
    """If it fails after a change of the header, run ``make contract``."""
    script, package = generator(), HEADER.parent.parent / "fastrnn"
    for path, text in script.modules(script.read()).items():
        assert (package / path).read_text(encoding="utf-8") == text, path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enum { FR_OK = 0, FR_BAD };", "must be FR_NAME = number"),
        ("enum { FR_OK = 1 << 3 };", "must be FR_NAME = number"),
    ],
)
def test_the_generator_refuses_what_it_does_not_understand(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        generator().read(text)


def test_every_number_of_a_kernel_has_a_type_in_python():
    """The generator knows a Python type for each C type of a number."""
    assert {a.c_type for kernel in kernels() for a in kernel.arguments if not a.is_array} <= {
        *("double", "int64_t")
    }


def test_the_optimizers_are_those_of_the_header():
    by_kernel = {kind.name.replace("adamw", "adam"): kind.number for kind in optimizers.OPTIMIZERS.values()}
    assert by_kernel == {name: number for number, name in enumerate(OPTIMIZER_NAMES)}


def test_the_cells_of_the_header_are_counted():
    assert len(CELL_NAMES) == constants.CELL_KINDS


def test_every_status_has_a_message():
    assert set(STATUS) == {constants.BAD_SIZE, constants.BAD_SYMBOL, constants.BAD_CHOICE, constants.ABORTED}
    assert all(STATUS.values())


def test_every_array_of_a_layout_is_a_field_of_a_plan():
    """A kernel would not get the offset of an array that is not a field."""
    for kind in CELL_NAMES:
        for E, tied in ((0, False), (3, False), (5, True)):
            shape = layout.Shape(kind, 1, 7, E, 5, tied)
            entries = [
                *plan.forward_weights(shape),
                *plan.backward_weights(shape),
                *plan.trace(shape, 2, 3, dropout=True),
                *plan.backward_trace(shape, 2, 3),
            ]
            for entry in entries:
                field, of_layer, _ = entry.name.partition("_l0")
                assert field in (PLAN_OF_LAYER if of_layer else PLAN), entry


def test_a_plan_has_the_order_of_the_header():
    shape = layout.Shape("gru", 2, 7, 5, 3, tied=False)
    numbers = plan.window_plan(shape, 9, 4).numbers
    sizes = {"CELL": constants.GRU, "LAYERS": 2, "VOCABULARY": 7, "EMBEDDING": 5, "HIDDEN": 3}
    sizes |= {"GATE_COUNT": 3, "PARAMETERS": layout.parameter_layout(shape).size, "HEAD_STEPS": 9, "TIED": 0}
    sizes |= {"BY_COLUMNS": 0, "EMBEDDING_WEIGHT": 0}
    assert {name: numbers[getattr(constants, name)] for name in sizes} == sizes
    assert len(numbers) == constants.LAYER + 2 * constants.LAYER_PLAN
    places = layout.parameter_layout(shape).offsets()
    for layer in range(2):
        own = numbers[constants.LAYER + layer * constants.LAYER_PLAN :]
        assert own[constants.GATE_BIAS] == places[f"bias_l{layer}"]
        assert own[constants.BIAS_HN] == places[f"bias_hn_l{layer}"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *((0, len(CELL_NAMES), "does not exist"), (0, -1, "does not exist")),
        *((1, 0, "size"), (3, -1, "size"), (4, 0, "size")),
    ],
)
def test_a_plan_of_no_network_is_refused(backend: str, field: int, value: int, message: str):
    right = plan.forward_plan(layout.Shape("lstm", 1, 3, 0, 2, tied=False), 1, 1)
    numbers = right.numbers.copy()
    numbers[field] = value
    logits, state, workspace = np.zeros((1, 1, 3)), np.zeros((2, 1, 1, 2)), np.zeros(right.size)
    params = np.zeros(99)
    ids, starts = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.uint8)
    with pytest.raises(RuntimeError, match=message):
        get_backend(backend).network_forward(
            logits=logits,
            state=state,
            workspace=workspace,
            barrier=np.zeros(constants.BARRIER, np.int32),
            params=params,
            inputs=ids,
            starts=starts,
            plan=numbers,
            part=0,
            parts=1,
            T=1,
            B=1,
        )


def test_an_optimizer_that_does_not_exist_is_refused(backend: str, monkeypatch: pytest.MonkeyPatch):
    trainer = fastrnn.Trainer(fastrnn.Network(3, 2, backend=backend), optimizer="sgd")
    monkeypatch.setattr(optimizers.SGD, "number", 99)
    with pytest.raises(RuntimeError, match=STATUS[constants.BAD_CHOICE]):
        trainer.step([[0]], [[1]])


def test_every_failure_is_raised_with_the_kernel_s_name(backend: str):
    kernels_of = get_backend(backend)
    y, weight, bias = np.zeros((1, 2)), np.zeros((3, 2)), np.zeros(2)
    with pytest.raises(RuntimeError, match=r"gather_forward of .*an id outside"):
        kernels_of.gather_forward(y=y, weight=weight, bias=bias, ids=np.array([3], np.int32), N=1, V=3, O=2)
    with pytest.raises(RuntimeError, match="gather_forward of .*size"):
        kernels_of.gather_forward(y=y, weight=weight, bias=bias, ids=np.array([0], np.int32), N=-1, V=3, O=2)


def test_what_is_tiny_is_the_same_everywhere():
    single, double = constants.TINY["float32"], constants.TINY["float64"]
    assert (single, double) == (2.0**-60, 2.0**-500)
    if require_backend("numba"):
        from fastrnn.backends.numba.elementary import DOUBLE, SINGLE

        assert (SINGLE.tiny, DOUBLE.tiny) == (single, double)


def test_a_packed_matrix_has_room_for_whole_panels_of_numba():
    """C asserts it when it is compiled."""
    require_backend("numba")
    from fastrnn.backends.numba.jit import WIDTH

    assert [constants.MAX_NR % (2 * WIDTH // bits) for bits in (32, 64)] == [0, 0]


#: Functions of C that Numba writes in place, or has in another file of the folder. The bodies named
#: `some_` are compiled twice in C, for one worker and for several.
WITHOUT_SIBLING = {
    "cross_entropy": {"sum_of"},
    "counts": {"node", "child", "mask", "least"},
    "elementary": {"bits", "from_bits", "blend", "reduce"},
    "gru": {"some_forward", "some_backward"},
    "linear": {"some_gather"},
    "lstm": {"some_forward", "some_backward"},
    "matmul": {"min", "tile_of_rows", "tile_of_columns", "clear_starts"},
    "network": {"sum_of"},
    "rnn": {"some_forward", "some_backward"},
    "sample": {"first_of_largest"},
    "team": {"wait_for_others", "is_aborted"},
    "update": {"clipped", "all_zero"},
}

#: A function of C with its body.
FUNCTION = re.compile(
    r"^(?:fr_inline|static inline|static|fr_status)\b[ \w*]*?(?<!\w)(?:FR\()?(\w+)\)?\((?=[^;{]*\)\s*\{)",
    re.MULTILINE,
)
NUMBA = Path(fastrnn.__file__).parent / "backends" / "numba"
SIBLINGS = {path.stem for path in HEADER.parent.glob("*.[ch]")} & {path.stem for path in NUMBA.glob("*.py")}


@pytest.mark.parametrize("stem", sorted(SIBLINGS - {"simd"}))
def test_functions_have_the_same_names_in_c_and_numba(stem: str):
    sources = [path.read_text(encoding="utf-8") for path in HEADER.parent.glob(f"{stem}.[ch]")]
    names = {name.removeprefix("fr_") for source in sources for name in FUNCTION.findall(source)}
    tree = ast.parse((NUMBA / f"{stem}.py").read_text(encoding="utf-8"))
    found = {
        node.name.removesuffix("_formula") for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    assert names - found == WITHOUT_SIBLING.get(stem, set())
