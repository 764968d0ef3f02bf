"""ONNX Runtime: inference only, on graphs built here."""

from __future__ import annotations

import math
from functools import partial
from itertools import cycle

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import Build, Run
from benchmarks.workloads import Sampling, Scoring, Weights, Workload

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def session(nodes, inputs, outputs, constants, threads: int) -> onnxruntime.InferenceSession:
    """A session of a graph; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        [helper.make_node(kind, ins, outs, **attributes) for kind, ins, outs, attributes in nodes],
        "network",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    # older runtimes can read these versions too
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])


def step_session(job: Sampling, weights: Weights, threads: int) -> onnxruntime.InferenceSession:
    """One step of sampling: the argmax of logits plus Gumbel noise is a draw."""
    return session(
        [
            ("Gather", ["rows", "symbol"], ["x"], {}),
            ("Gemm", ["h", "W_hh", "x"], ["z"], {}),
            ("Tanh", ["z"], ["h_next"], {}),
            ("Gemm", ["h_next", "W_head", "noise"], ["logits"], {}),
            ("ArgMax", ["logits"], ["next"], {"axis": 1, "keepdims": 0}),
        ],
        [("symbol", INT64, [1]), ("h", FLOAT, [1, job.H]), ("noise", FLOAT, [1, job.V])],
        [("next", INT64, [1]), ("h_next", FLOAT, [1, job.H])],
        {
            "rows": weights["weight_ih_l0"].T + weights["bias_l0"],
            "W_hh": weights["weight_hh_l0"].T,
            "W_head": weights["head.weight"].T,
        },
        threads,
    )


def gumbel_noise(job: Sampling, weights: Weights, rng: np.random.Generator) -> np.ndarray:
    """Gumbel noise plus the head's bias, (T, 1, V)."""
    noise = -np.log(rng.standard_exponential((job.T, 1, job.V), dtype=np.float32))
    return noise + weights["head.bias"]


def sampling_by_run(job: Sampling, weights: Weights, threads: int) -> Run:
    step = step_session(job, weights, threads)
    rng = np.random.default_rng(0)

    def run() -> list[int]:
        symbol, h = np.zeros(1, np.int64), np.zeros((1, job.H), np.float32)
        output = []
        for noise in gumbel_noise(job, weights, rng):
            symbol, h = step.run(None, {"symbol": symbol, "h": h, "noise": noise})
            output.append(int(symbol[0]))
        return output

    return run


def sampling_by_binding(job: Sampling, weights: Weights, threads: int) -> Run:
    """Two bindings in turn: the outputs of one are the inputs of the other; the noise is copied."""
    step = step_session(job, weights, threads)
    rng = np.random.default_rng(0)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    noise_value = value(np.zeros((1, job.V), np.float32))
    symbols = [value(np.zeros(1, np.int64)) for _ in range(2)]
    states = [value(np.zeros((1, job.H), np.float32)) for _ in range(2)]
    bindings = [step.io_binding() for _ in range(2)]
    for i, binding in enumerate(bindings):
        binding.bind_ortvalue_input("symbol", symbols[i])
        binding.bind_ortvalue_input("h", states[i])
        binding.bind_ortvalue_input("noise", noise_value)
        binding.bind_ortvalue_output("next", symbols[1 - i])
        binding.bind_ortvalue_output("h_next", states[1 - i])

    def run() -> list[int]:
        symbols[0].update_inplace(np.zeros(1, np.int64))
        states[0].update_inplace(np.zeros((1, job.H), np.float32))
        output = []
        turns = cycle([(bindings[0], symbols[1]), (bindings[1], symbols[0])])
        for noise, (binding, symbol) in zip(gumbel_noise(job, weights, rng), turns, strict=False):
            noise_value.update_inplace(noise)
            step.run_with_iobinding(binding)
            output.append(int(symbol.numpy()[0]))
        return output

    return run


def scoring(job: Scoring, weights: Weights, threads: int) -> Run:
    """The RNN operator on one-hot inputs, gathered from an identity."""
    shape = [job.T, job.B]
    scores = session(
        [
            ("Gather", ["identity", "inputs"], ["x"], {}),
            ("RNN", ["x", "W_ih", "W_hh", "biases"], ["hs", ""], {"hidden_size": job.H}),
            ("Squeeze", ["hs", "directions"], ["h"], {}),
            ("MatMul", ["h", "W_head"], ["product"], {}),
            ("Add", ["product", "bias"], ["logits"], {}),
            ("LogSoftmax", ["logits"], ["log_p"], {"axis": -1}),
            ("GatherElements", ["log_p", "targets"], ["scores"], {"axis": -1}),
        ],
        [("inputs", INT64, shape), ("targets", INT64, [*shape, 1])],
        [("scores", FLOAT, [*shape, 1])],
        {
            "identity": np.eye(job.V, dtype=np.float32),
            "W_ih": weights["weight_ih_l0"][None],
            "W_hh": weights["weight_hh_l0"][None],
            "biases": np.concatenate([weights["bias_l0"], np.zeros(job.H, np.float32)])[None],
            "directions": np.array([1]),
            "W_head": weights["head.weight"].T,
            "bias": weights["head.bias"],
        },
        threads,
    )
    ids = job.streams().astype(np.int64)
    feed = {"inputs": ids[:-1], "targets": ids[1:, :, None]}
    return lambda: scores.run(None, feed)[0][:, 0, 0] / -math.log(2)


def forms(job: Workload) -> dict[str, Build]:
    if not job.is_plain:
        return {}
    if isinstance(job, Sampling):
        return {"session.run": sampling_by_run, "IOBinding": sampling_by_binding}
    return {"RNN operator": partial(scoring)} if isinstance(job, Scoring) else {}
