"""The numbers of ``csrc/fastrnn.h`` that the kernels use."""

from __future__ import annotations

OK, BAD_SIZE, BAD_SYMBOL, BAD_CHOICE, ABORTED = 0, 1, 2, 3, 4
SGD, ADAGRAD, ADAM, RMSPROP = 0, 1, 2, 3
SUM, MEAN, BATCHMEAN = 0, 1, 2
EXP, TANH, SIGMOID, LOG = 0, 1, 2, 3
BLOCK, ROWS, STRETCH, SUMS, SETTINGS = 256, 64, 1024, 16, 6
RNN_TANH, RNN_RELU, GRU, LSTM = 0, 1, 2, 3
OPTIMIZER_NAMES, CELL_NAMES = ("sgd", "adagrad", "adam", "rmsprop"), ("rnn_tanh", "rnn_relu", "gru", "lstm")
# what a plan says of a network, and of each of its layers
CELL, LAYERS, VOCABULARY, EMBEDDING, HIDDEN, PARAMETERS, HEAD_STEPS = range(7)
EMBEDDING_WEIGHT, HEAD_WEIGHT, HEAD_BIAS = range(7, 10)
HEAD_T, HEAD, BLOCKS, X, RUNNING, DC, DX, LOGITS, ZEROS, LAYER = range(10, 20)
WEIGHT_IH, WEIGHT_HH, GATE_BIAS, BIAS_HN, IH_T, HH_T, IH, HH, H_, INNER, GATES, UP, DH, DGATES, LAYER_PLAN = (
    range(15)
)
ARRIVED, ROUND, ABORT = 0, 16, 32
