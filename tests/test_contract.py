"""The header, the reference and the compiled kernels state the same kernels, with the same arguments."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from conftest import require_backend
from contract import HEADER, Kernel, constants, kernels

import fastrnn
from fastrnn import optimizers
from fastrnn.backends import reference
from fastrnn.backends.backend import KERNELS, STATUS
from fastrnn.backends.registry import get_backend
from fastrnn.core import layout
from fastrnn.core import thread_team as threads
from fastrnn.network import network

NAMES = [kernel.name for kernel in kernels()]


def test_the_registry_lists_the_header():
    assert list(KERNELS) == NAMES


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
@pytest.mark.parametrize(("suffix", "real"), [("f32", "float"), ("f64", "double")])
def test_c_has_the_header_s_types(kernel: Kernel, suffix: str, real: str):
    require_backend("c")
    from fastrnn.backends import _c_baseline as module

    actual = module.ffi.typeof(getattr(module.lib, f"fr_{kernel.name}_{suffix}")).args
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
        *("head_weight", "run", "run_head", "run_layer", "run_layer_back", "gradient_scale", "draw"),
    }


def test_the_optimizers_are_numbered_as_in_the_header():
    values = constants()
    for optimizer in optimizers.OPTIMIZERS.values():
        kernel = {"adamw": "adam"}.get(optimizer.name, optimizer.name)
        assert values[f"FR_{kernel.upper()}"] == optimizer.number
    assert values["FR_SETTINGS"] == optimizers.SETTINGS


def test_every_status_has_a_message():
    failures = {value for name, value in constants().items() if name.startswith(("FR_BAD_", "FR_ABORTED"))}
    assert failures == set(STATUS)


#: Constants of the header that are no names in Numba's module.
UNUSED = {"SYNC"}


def test_the_constants_are_those_of_the_header():
    values = {name.removeprefix("FR_"): value for name, value in constants().items()}
    modules = [reference]
    assert (values["BLOCK"], values["ROWS"]) == (layout.BLOCK, layout.HEAD_ROWS)
    assert (values["SYNC"], values["ABORT"]) == (threads.SYNC, threads.ABORT)
    if require_backend("numba"):
        from fastrnn.backends.numba import constants as numba_constants

        modules.append(numba_constants)
    for module in modules:
        own = {name.rstrip("_"): value for name, value in vars(module).items() if name.rstrip("_") in values}
        assert own == {name: values[name] for name in own}
        expected = {"OK", "BAD_SIZE", "BAD_SYMBOL", "BAD_CHOICE"}
        assert (set(values) - UNUSED if module is not reference else expected) <= set(own)


#: What the header calls an array of a plan, where layout.py has PyTorch's name.
PLAN_NAMES = {"bias": "GATE_BIAS"}


def plan_name(name: str) -> str:
    return "FR_" + PLAN_NAMES.get(name, name.replace(".", "_").upper())


def test_a_plan_has_the_order_of_the_header():
    values = constants()
    assert [values[f"FR_{kind.upper()}"] for kind in layout.KINDS] == [0, 1, 2, 3]
    shape = layout.Shape("gru", 2, 7, 5, 3, tied=False)
    sizes = dict(zip(("CELL", "LAYERS", "VOCABULARY", "EMBEDDING", "HIDDEN"), (2, 2, 7, 5, 3), strict=True))
    sizes |= {"PARAMETERS": layout.parameter_layout(shape).size, "HEAD_STEPS": 9}
    plan = layout.plan_of(shape, 4, 9, {})
    assert {name: plan[values[f"FR_{name}"]] for name in sizes} == sizes
    arrays = [plan_name(name) for name in (*layout.PARAMETERS, *layout.SCRATCH)]
    assert [values[name] for name in arrays] == list(range(len(sizes), values["FR_LAYER"]))
    own = [plan_name(name) for name in (*layout.LAYER_PARAMETERS, *layout.LAYER_SCRATCH)]
    assert [values[name] for name in own] == list(range(values["FR_LAYER_PLAN"]))
    assert len(plan) == values["FR_LAYER"] + 2 * values["FR_LAYER_PLAN"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [(0, 4, "no such cell"), (0, -1, "no such cell"), (1, 0, "size"), (3, -1, "size"), (4, 0, "size")],
)
def test_a_plan_of_no_network_is_refused(backend: str, field: int, value: int, message: str):
    plan = layout.forward_plan(layout.Shape("lstm", 1, 3, 0, 2, tied=False), 1, 1)
    numbers = plan.numbers.copy()
    numbers[field] = value
    logits, state, workspace = np.zeros((1, 1, 3)), np.zeros((2, 1, 1, 2)), np.zeros(plan.size)
    params = np.zeros(99)
    ids, starts = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.uint8)
    with pytest.raises(RuntimeError, match=message):
        get_backend(backend).network_forward(logits, state, workspace, params, ids, starts, numbers, 1, 1)


def test_an_optimizer_that_does_not_exist_is_refused(backend: str, monkeypatch: pytest.MonkeyPatch):
    trainer = fastrnn.Trainer(fastrnn.Network(3, 2, backend=backend), optimizer="sgd")
    monkeypatch.setattr(optimizers.SGD, "number", 99)
    with pytest.raises(RuntimeError, match="there is no such cell, optimizer or function"):
        trainer.step([[0]], [[1]])


def test_every_failure_is_raised_with_the_kernel_s_name(backend: str):
    kernels_of = get_backend(backend)
    y, weight, bias = np.zeros((1, 2)), np.zeros((3, 2)), np.zeros(2)
    with pytest.raises(RuntimeError, match=r"gather_forward of .*id is outside"):
        kernels_of.gather_forward(y, weight, bias, np.array([3], np.int32), 1, 3, 2)
    with pytest.raises(RuntimeError, match="gather_forward of .*size"):
        kernels_of.gather_forward(y, weight, bias, np.array([0], np.int32), -1, 3, 2)


def test_what_is_tiny_is_the_same_everywhere():
    header = (HEADER.parent / "real.h").read_text()
    stated = re.search(r"#define FR_TINY FR_BY_PRECISION\((\S+)f, (\S+)\)", header)
    assert stated is not None
    single, double = map(float.fromhex, stated.groups())
    assert {"float32": single, "float64": double} == network.TINY
    if require_backend("numba"):
        from fastrnn.backends.numba.elementary import DOUBLE, SINGLE

        assert (SINGLE.tiny, DOUBLE.tiny) == (single, double)
