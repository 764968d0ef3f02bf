"""Fixtures that all test files share: the backends and the data folder."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from fastrnn.backends.backend import Backend
from fastrnn.backends.registry import BACKENDS, find_backend
from fastrnn.errors import BackendUnavailableError

#: Backends whose absence is a failure, not a skip.
REQUIRED = [name for name in os.environ.get("FASTRNN_REQUIRE_BACKENDS", "").split(",") if name]


def pytest_configure() -> None:
    unknown = set(REQUIRED) - set(BACKENDS)
    if unknown:
        raise pytest.UsageError(f"FASTRNN_REQUIRE_BACKENDS names {sorted(unknown)}, which do not exist")


def require_backend(name: str) -> str:
    """Return the name of a backend. If the backend is missing, skip, or fail if it is required."""
    found = find_backend(name)
    if not isinstance(found, Backend):
        if name in REQUIRED:
            pytest.fail(f"FASTRNN_REQUIRE_BACKENDS asks for {name}: {found}")
        pytest.skip(found)
    return name


def require_isa(name: str, isa: str) -> None:
    """Skip unless the compiled backend exists and the processor can run the instruction set."""
    require_backend(name)
    module = importlib.import_module(f"fastrnn.backends.{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRNN_ISA", isa)
        try:
            module._choose_build() if name == "c" else module.forced_here()
        except BackendUnavailableError as error:
            pytest.skip(str(error))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return require_backend(request.param)


@pytest.fixture(params=[name for name in BACKENDS if name != "numpy"])
def compiled(request: pytest.FixtureRequest) -> str:
    """Each compiled backend in turn."""
    return require_backend(request.param)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of texts that FASTRNN_DATA names."""
    folder = os.environ.get("FASTRNN_DATA")
    if not folder:
        pytest.skip("FASTRNN_DATA does not name a folder of texts")
    return Path(folder)
