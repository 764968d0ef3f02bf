"""How well and how fast fastrnn learns a real text: ``make claim-quality``, one or two minutes.

``fastrnn train`` with its defaults trains in its own process on the first nine tenths of
tinyshakespeare. It must reach 1.6 nats per character on the last tenth within 120 seconds. nanoGPT's README
gives 1.88 for three minutes on a CPU, on the same split.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NATS = 1.6
SECONDS = 120.0


def run(*arguments: object) -> str:
    """Run fastrnn and return what it prints."""
    command = [sys.executable, "-m", "fastrnn", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Train on a file whose last tenth is held out, score the held-out part, and print a sample."""
    path = Path(os.environ["FASTRNN_DATA"]) / "tinyshakespeare.txt"
    with tempfile.TemporaryDirectory() as name:
        model, held_out = Path(name) / "model", Path(name) / "held_out"
        text = path.read_bytes()
        held_out.write_bytes(text[int(len(text) * 0.9) :])
        began = time.perf_counter()
        run("train", path, "-o", model, "--seed", 0)
        seconds = time.perf_counter() - began
        nats = json.loads(run("eval", model, held_out, "--json"))["nats_per_symbol"]
        print(run("sample", model, "--prime", "\n", "-n", 300, "--temperature", 0.8, "--seed", 0))
    print(f"{nats:.4f} nats per character (at most {NATS}) in {seconds:.1f} seconds (at most {SECONDS:.0f})")
    sys.exit(nats > NATS or seconds > SECONDS)


if __name__ == "__main__":
    main()
