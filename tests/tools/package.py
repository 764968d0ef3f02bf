"""Build the packages and try them like a new user: ``make package``.

A source distribution is built. From it, a wheel is built with a C compiler, whose warnings are errors, and
another without one. Each wheel is installed into a new environment, outside the source tree, and runs the
preset scratch on every backend that it must have. It also makes reports: their template is in the wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

HELLO = """
import fastrnn
for backend in {backends}:
    model = fastrnn.train("hello", preset="scratch", backend=backend)
    assert f"{{model.history[-1]['loss']:.4f}}" == "0.0011", model
    fastrnn.show(model, "hello").save("report.html")
assert "site-packages" in fastrnn.__file__, fastrnn.__file__
"""


def run(*command: object, **options: object) -> str:
    """Run a command and return what it prints; its errors are shown."""
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True, **options).stdout  # type: ignore[call-overload, no-any-return]


def build_wheel(sdist: Path, folder: Path, **environment: str) -> Path:
    """Build a wheel from the source distribution."""
    folder.mkdir()
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, sdist),
        *("--config-settings", "cmake.define.FASTRNN_WERROR=ON"),
        env={**os.environ, **environment},
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def modules_of(wheel: Path) -> set[str]:
    """The compiled modules in a wheel, without their suffixes."""
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name).name for name in archive.namelist()]
    return {name.split(".")[0] for name in names if name.startswith("_c_")}


def try_wheel(wheel: Path, folder: Path, backends: list[str]) -> None:
    """Install a wheel into a new environment and run the preset scratch there."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[report]")
    run(python, "-c", HELLO.format(backends=backends), cwd=folder)
    told = json.loads(run(folder / "bin" / "fastrnn", "info", "--json", cwd=folder))
    missing = {name for name, text in told["backends"].items() if text.startswith("missing")}
    assert missing == {"numba", "c", "numpy"} - set(backends), told
    print(f"{wheel.name}: {', '.join(backends)} run; {told['backends']}")


def main() -> None:
    """Build and try everything in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT)
        (sdist,) = folder.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            names = {member.partition("/")[2] for member in archive.getnames()}
        assert {
            "csrc/fastrnn.h",
            "docs/guide.md",
            "tests/helpers/naive.py",
            "Makefile",
            "LICENSE",
        } <= names, names
        compiled = build_wheel(sdist, folder / "compiled")
        assert modules_of(compiled) >= {"_c_baseline"}, modules_of(compiled)
        try_wheel(compiled, folder / "one", ["numba", "c", "numpy"])
        without = build_wheel(sdist, folder / "without", CC="/no/such/compiler")
        assert not modules_of(without)
        try_wheel(without, folder / "two", ["numba", "numpy"])


if __name__ == "__main__":
    main()
