"""Compiles kernels: for a processor, with the options that all kernels share, and with a cache on disk."""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import llvmlite.binding
import numba
from numba.core import compiler, compiler_machinery, ir, types
from numba.core.ir_utils import build_definitions
from numba.core.registry import cpu_target
from numba.core.targetconfig import ConfigStack
from numba.core.untyped_passes import IRProcessing
from numba.extending import intrinsic

from fastrnn.backends.backend import forced_isa
from fastrnn.backends.kernel_cache import cache_on_disk
from fastrnn.errors import BackendUnavailableError


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function that holds no GIL and raises no exception, with a cache if it can be written."""
    compiled = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if STAMP[-1] is not None:
        cache_on_disk(compiled, STAMP)
    return cast("Callable[..., Any]", compiled)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but inlined in each kernel that calls the function."""
    return jit(function, inline="always")


def routine(function: Callable[..., Any], result: types.Type = types.intp) -> Callable[..., Any]:
    """Let kernels call a function that returns a status. It is compiled once in each kernel.

    Numba would compile a jitted function once on its own, and then again in each kernel that calls it.
    A literal argument of a routine is a constant in it.
    """

    def definition(typing_context: Any, *arguments: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            descriptor = compile_into_library(context, function, signature)
            return context.call_internal(builder, descriptor, signature, values)

        return result(*arguments), emit

    parameters = inspect.signature(function).parameters.values()
    first = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    cast("Any", definition).__signature__ = inspect.Signature([first, *parameters])
    definition.__name__ = definition.__qualname__ = function.__name__
    called = cast("Any", intrinsic(prefer_literal=True)(definition))
    called.py_func = function
    return cast("Callable[..., Any]", called)


def kernel(called: Any) -> Callable[..., Any]:
    """Make a kernel of a routine: Python calls a kernel with arrays."""
    return jit(called.py_func)


def procedure(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same as `routine`, for a function that returns nothing."""
    return routine(function, types.none)


@compiler_machinery.register_pass(mutates_CFG=False, analysis_only=False)
class ConstantArguments(compiler_machinery.FunctionPass):
    """Turns literal arguments into constants, so that Numba removes the branches that are not taken."""

    _name = "fastrnn_constant_arguments"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Replace each load of a literal argument."""
        for block in state.func_ir.blocks.values():
            for statement in block.find_insts(ir.Assign):
                if isinstance(statement.value, ir.Arg):
                    kind = state.args[statement.value.index]
                    if isinstance(kind, types.IntegerLiteral):
                        statement.value = ir.Const(kind.literal_value, statement.loc)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)  # noqa: SLF001
        return True


class RoutineCompiler(compiler.CompilerBase):
    """Numba's compiler, for routines."""

    def define_pipelines(self) -> list[Any]:
        """Numba's usual passes, and `ConstantArguments` after `IRProcessing`."""
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(ConstantArguments, IRProcessing)
        passes.finalize()
        return [passes]


#: The routines in each code library that is being compiled, by function and types.
COMPILED_FUNCTIONS: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()


def compile_into_library(context: Any, function: Callable[..., Any], signature: Any) -> Any:
    """Compile a function into the current code library, if it is not there; return its descriptor."""
    library = context.active_code_library
    compiled = COMPILED_FUNCTIONS.setdefault(library, {})
    key = function, signature.args
    if key not in compiled:
        flags = ConfigStack().top().copy()
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        routine_compiler = RoutineCompiler(
            context.typing_context, context, library, signature.args, signature.return_type, flags, {}
        )
        result = routine_compiler.compile_extra(function)
        compiled[key] = result.fndesc
        made = library._final_module.get_function(result.fndesc.llvm_func_name)  # noqa: SLF001
        made.linkage = "linkonce_odr"  # LLVM removes it if all calls are inlined
    return compiled[key]


#: The instruction sets that FASTRNN_ISA may force: LLVM's names of a processor and of features.
TARGETS = {
    "v4": ("x86-64-v4", "+avx512f,+fma,-prefer-256-bit"),
    "v3": ("x86-64-v3", "+avx2,+fma"),
    "baseline": ("x86-64", "+sse2"),
}


def forced_here() -> str | None:
    """The instruction set that FASTRNN_ISA forces, by the same rules as for the C backend."""
    has = llvmlite.binding.get_host_cpu_features()
    v3 = all(has.get(name) for name in ("avx2", "fma", "bmi", "bmi2"))
    v4 = v3 and all(has.get(f"avx512{name}") for name in ("f", "bw", "cd", "dq", "vl"))
    return forced_isa([isa for isa, runs in (("v4", v4), ("v3", v3), ("baseline", True)) if runs])


def choose_target() -> frozenset[str]:
    """The features that Numba compiles for: the processor's, or those of the forced instruction set.

    They hold for the whole process, since Numba makes its compiler once. Its cache keys contain the target.
    """
    forced = FORCED if platform.machine() in {"x86_64", "AMD64"} else None
    if forced:
        config = cast("Any", numba.config)
        config.CPU_NAME, config.CPU_FEATURES = TARGETS[forced]
    _, *target = cpu_target.target_context.codegen().magic_tuple()
    if forced and tuple(target) != TARGETS[forced]:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={forced!r} comes too late for backend='numba': Numba has already compiled for "
            f"{target[0]} in this process; load the backend before anything else uses Numba"
        )
    return frozenset(name[1:] for name in target[1].split(",") if name.startswith("+"))


def processor() -> tuple[int, bool]:
    """The width of the widest vectors in bits (0: not known), and whether the processor has fma."""
    if forced_here() != FORCED:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={forced_here()!r} comes too late for backend='numba': this process has loaded it "
            f"with {FORCED!r}"
        )
    widths = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "neon": 128}
    bits = max((width for name, width in widths.items() if name in FEATURES), default=0)
    return bits, not FEATURES.isdisjoint({"fma", "neon"})


FORCED = forced_here()
FEATURES = choose_target()
WIDTH, FUSES = max(processor()[0], 128), processor()[1]


def folder_stamp() -> dict[str, str] | None:
    """The names and digests of the files of this folder; ``None`` if it is not a folder, as in a zip file."""
    folder = Path(__file__).parent
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.suffix in {".py", ".pyc"})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


#: A compiled kernel depends on this, besides its own bytecode, its signature and the processor. It contains
#: the functions that it calls, so a change in any file of this folder may change it.
STAMP = (numba.__version__, WIDTH, folder_stamp())
