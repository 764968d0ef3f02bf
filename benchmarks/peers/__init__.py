"""The libraries that are compared: a module each, with a few lines for each kind of work.

A module tells in which forms it can do a job; a form builds a function of no arguments that does one
call's work and returns its results, which must agree between libraries: the loss of each window in nats,
the ids drawn, or the bits of the first text's characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.workloads import Weights, Workload

Run = Callable[[], Sequence[float]]

#: From a job, its weights and a number of threads.
Build = Callable[[Workload, Weights, int], Run]


@dataclass(frozen=True)
class Library:
    """What a library is called, and where the function is that tells its forms for a job, by name."""

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

#: What all of them are held against: fastrnn's NumPy backend for the results, the core for the speed.
REFERENCE = Library("fastrnn numpy", "benchmarks.peers.fastrnn:reference_forms")
PEAK = Library("fma peak", "benchmarks.peers.peak:forms")
