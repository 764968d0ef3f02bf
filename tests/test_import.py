"""The cost of importing fastrnn, and its lack of side effects."""

from __future__ import annotations

import doctest
import importlib
import logging
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import SEED_LOSSES

import fastrnn

EXAMPLES = Path(__file__).parent.parent / "examples"


def python(code: str, *options: str) -> str:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def calls_of(code: str) -> int:
    """The function calls of code in a new interpreter: they stand for its seconds, and are always as many."""
    counted = "import sys; calls = []; sys.setprofile(lambda *_: calls.append(0))\n" + code
    return int(python(counted + "\nsys.setprofile(None); print(len(calls))").splitlines()[-1])


def test_import_costs_little_beside_numpy_s():
    assert calls_of("import fastrnn") <= 0.1 * calls_of("import numpy")


def test_training_s_modules_cost_little_more_than_numpy_s():
    """The cost of the first use is measured, without a backend."""
    assert calls_of("import fastrnn.training.train") <= 1.6 * calls_of("import numpy")


def test_import_does_not_import_what_is_not_needed():
    heavy = (
        "{'numba', 'llvmlite', 'safetensors', 'click', 'tqdm', 'torch', 'tensorboardX', 'mlflow', 'pandas'}"
    )
    heavy += " & set(sys.modules)"
    assert python(f"import sys, fastrnn; print(len({heavy}))") == "0"
    assert python(f"import sys, fastrnn.training.train; print(len({heavy}))") == "0"
    assert python(f"import sys, fastrnn.callbacks; print(len({heavy}))") == "0"


def test_import_has_no_side_effects():
    code = (
        "import logging, signal, sys; before = (logging.root.handlers[:], signal.getsignal(2), sys.stdout);"
        "import fastrnn, fastrnn.training.train;"
        "print(before == (logging.root.handlers[:], signal.getsignal(2), sys.stdout))"
    )
    assert python(code, "-W", "error") == "True"


def test_help_costs_less_than_half_of_the_training_modules():
    """It needs no NumPy."""
    program = "sys.argv = ['fastrnn', '--help']\nfrom fastrnn.cli.main import main\n"
    program += "try: main()\nexcept SystemExit: pass\nassert 'numpy' not in sys.modules"
    assert calls_of(program) <= 0.5 * calls_of("import fastrnn.training.train")


def test_every_public_name_is_there_and_listed():
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name) is not None
        assert name in dir(fastrnn)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = fastrnn.nonsense


def test_the_library_s_logger_is_silent_unless_asked():
    importlib.import_module("fastrnn.training.train")
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("fastrnn").handlers)


@pytest.mark.parametrize(
    "name",
    [
        m.name
        for m in pkgutil.walk_packages(fastrnn.__path__, "fastrnn.")
        if "__main__" not in m.name and "._c" not in m.name
    ],
)
def test_docstring_examples_run(name: str):
    try:
        module = importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} needs a library that is not installed")
    assert doctest.testmod(module).failed == 0


def test_the_package_s_own_docstring_example_runs():
    assert doctest.testmod(fastrnn).attempted >= 3
    assert doctest.testmod(fastrnn).failed == 0


def test_hello_prints_what_the_seed_prints():
    printed = subprocess.run(
        [sys.executable, EXAMPLES / "hello.py"], capture_output=True, text=True, check=True
    ).stdout
    lines = [f"epoch {200 * i}, loss = {loss}" for i, loss in enumerate(SEED_LOSSES)]
    assert printed == "\n".join([*lines, "", "Generated text:", "elloe", ""])
