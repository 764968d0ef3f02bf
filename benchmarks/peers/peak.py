"""The peak of a core: independent chains of fused multiply-adds that stay in registers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from benchmarks.peers import Build, Run
from benchmarks.workloads import Weights, Workload
from fastrnn.backends.numba import processor

WIDTH = max(processor()[0], 128)

#: More chains than two units with a latency of four cycles need, and fewer than there are registers.
CHAINS = 12
STEPS = 2_000_000


@intrinsic
def fma_chains(typing_context, x, steps):  # noqa: ARG001
    """Replace each of CHAINS vectors v by v·x + x, ``steps`` times; return an element of their sum."""
    lanes = WIDTH // x.bitwidth

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        x_, steps_ = arguments
        vector = ir.VectorType(context.get_data_type(x), lanes)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{x.bitwidth}"
        )
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), x_, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
        factor = builder.shuffle_vector(first, first, zeros)
        chains = [
            cgutils.alloca_once_value(builder, ir.Constant(vector, [float(i)] * lanes)) for i in range(CHAINS)
        ]
        with cgutils.for_range(builder, steps_):
            for chain in chains:
                builder.store(builder.call(fma, [builder.load(chain), factor, factor]), chain)
        total = builder.load(chains[0])
        for chain in chains[1:]:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return x(x, types.intp), emit


@numba.njit(nogil=True)
def run_chains(x, steps):
    return fma_chains(x, steps)


def chains(dtype: str, threads: int) -> Run:
    """Run the chains on all threads at the same time; the result is the number of operations."""
    x = np.dtype(dtype).type(0.5)
    pool = ThreadPoolExecutor(threads)
    operations = 2.0 * CHAINS * (WIDTH // (8 * x.itemsize)) * STEPS * threads

    def run() -> list[float]:
        list(pool.map(run_chains, [x] * threads, [STEPS] * threads))
        return [operations]

    return run


def gflops_of_core(threads: int, seconds: float = 1.0) -> float:
    """The highest GFLOP/s in float32 of each core, while so many of them work."""
    run = chains("float32", threads)
    run()  # compiles
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        operations = run()[0]
        rates.append(operations / (time.perf_counter() - began))
    return max(rates) / threads / 1e9


def peak(job: Workload, weights: Weights, threads: int) -> Run:  # noqa: ARG001
    """The chains in the precision of a job."""
    return chains(job.dtype, threads)


def forms(job: Workload) -> dict[str, Build]:  # noqa: ARG001
    return {"chains": peak}
