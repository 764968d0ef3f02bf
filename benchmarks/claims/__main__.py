"""Check claims of the README: ``python -m benchmarks.claims [--list] [NAME [OPTIONS]]``, ``make claims``.

Without a name, all claims are checked, each in its own process, and the result of each is printed. The
options after a name are those of the claim's module.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims import CLAIMS, Claim

ROOT = Path(__file__).parents[2]

#: Checks use helpers of the tests, and networks of tests/network/test_denormals.py.
TEST_FOLDERS = (ROOT / "tests", ROOT / "tests" / "network")


def print_table() -> None:
    """Print the table of claims."""
    for claim in CLAIMS:
        texts = "; needs FASTRNN_DATA" if claim.needs_texts else ""
        print(f"{claim.command:<22} {claim.states} ({claim.minutes} minutes{texts})")


def holds(claim: Claim, options: Sequence[str]) -> bool:
    """Check a claim in its own process, which prints the measurements."""
    print(f"{claim.name}: {claim.states}", flush=True)
    if claim.needs_texts and not os.environ.get("FASTRNN_DATA"):
        print(f"{claim.name}: not checked, because FASTRNN_DATA does not name a folder of texts")
        return False
    command = [sys.executable, "-m", claim.module, *options]
    path = os.pathsep.join(map(str, TEST_FOLDERS))
    return subprocess.call(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}) == 0


def main(arguments: Sequence[str] | None = None) -> bool:
    """Check the named claim, or all claims; return whether every checked claim holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the table of claims and check none")
    parser.add_argument("name", nargs="?", choices=[claim.name for claim in CLAIMS])
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the claim's own module")
    given = parser.parse_args(arguments)
    if given.list:
        print_table()
        return True
    chosen = [claim for claim in CLAIMS if given.name in {None, claim.name}]
    found = {claim.name: holds(claim, given.options) for claim in chosen}
    for name, result in found.items():
        print(f"{name}: {'holds' if result else 'DOES NOT HOLD, or was not checked'}")
    return all(found.values())


if __name__ == "__main__":
    sys.exit(not main())
