"""The libraries that are compared: one module for each, with a few lines for each kind of work.

A module has several forms of a job, which are ways to do it. A form builds a function of no arguments, which
does the work of one call and returns its results. These must agree between libraries: the loss of each window
in nats, the drawn ids, or the bits of the characters of the first text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.workloads import Weights, Workload

Run = Callable[[], Sequence[float]]

#: Builds the function of a form from a job, its weights and a number of threads.
Build = Callable[[Workload, Weights, int], Run]


@dataclass(frozen=True)
class Library:
    """The name of a library, and the place of the function that returns its forms of a job by name."""

    title: str
    forms: str


LIBRARIES = {
    "numba": Library("fastrnn numba", "benchmarks.peers.fastrnn:numba_forms"),
    "c": Library("fastrnn c", "benchmarks.peers.fastrnn:c_forms"),
    "numpy": Library("NumPy script", "benchmarks.peers.numpy:forms"),
    "torch": Library("PyTorch", "benchmarks.peers.torch:forms"),
    "jax": Library("JAX", "benchmarks.peers.jax:forms"),
    "onnxruntime": Library("ONNX Runtime", "benchmarks.peers.onnxruntime:forms"),
}

#: The reference for all results, and the peak of the cores, to which all speeds are compared.
REFERENCE = Library("fastrnn numpy", "benchmarks.peers.fastrnn:reference_forms")
PEAK = Library("fma peak", "benchmarks.peers.peak:forms")
