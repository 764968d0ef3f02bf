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


def best_of(count: int, code: str) -> float:
    """The least processor time in seconds of code in a new interpreter, without the start of the interpreter.

    Other processes do not add to processor time.
    """
    timed = f"import time; t = time.process_time(); {code}; print(time.process_time() - t)"
    return min(float(python(timed)) for _ in range(count))


def test_import_costs_little_more_than_numpy_s():
    assert best_of(7, "import fastrnn") <= 1.3 * best_of(7, "import numpy")


def test_training_s_modules_cost_little_more_than_numpy_s():
    """The cost of the first use is measured, without a backend."""
    assert best_of(7, "import fastrnn.training.train") <= 3 * best_of(7, "import numpy")


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


def test_help_answers_within_a_fifth_of_a_second():
    """Processor time is measured, which does not depend on other processes."""
    program = "import atexit, time; atexit.register(lambda: print(time.process_time())); "
    program += "import sys; sys.argv = ['fastrnn', '--help']; from fastrnn.cli.main import main; main()"
    times = [float(python(program).splitlines()[-1]) for _ in range(7)]
    assert min(times) <= 0.2


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
