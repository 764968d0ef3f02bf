"""The kernels of ``csrc/fastrnn.h``, compiled by Numba.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. Each file is
the sibling of the file of the same name in ``csrc/``. A kernel is compiled when it is first called, for the
precision that it is called with, and is cached on disk where a writable place is found. The cache notices a
change in any file of this folder. So no constant of a kernel comes from outside of the folder.

Not all of it is Python. A tile of the matrix product, the functions exp, tanh, sigmoid and log, the loops
that apply them, and sums are written as LLVM instructions, for their exact operations and their speed.
"""

from fastrnn.backends.numba.cross_entropy import cross_entropy
from fastrnn.backends.numba.dropout import dropout
from fastrnn.backends.numba.elementary import elementary
from fastrnn.backends.numba.gru import gru_backward, gru_forward, gru_gradients
from fastrnn.backends.numba.inference import network_forward, network_losses, network_prepare, network_step
from fastrnn.backends.numba.jit import forced_here, processor
from fastrnn.backends.numba.linear import (
    embedding_forward,
    embedding_gradients,
    gather_forward,
    gather_gradients,
    linear_forward,
    linear_gradients,
    pack,
    recurrent_gradients,
)
from fastrnn.backends.numba.lstm import lstm_backward, lstm_forward
from fastrnn.backends.numba.network import network_gradients, train_windows
from fastrnn.backends.numba.rnn import rnn_backward, rnn_forward
from fastrnn.backends.numba.sample import sample
from fastrnn.backends.numba.update import (
    adagrad_update,
    adam_update,
    average_update,
    gradient_norm,
    rmsprop_update,
    sgd_update,
)

__all__ = [
    "adagrad_update",
    "adam_update",
    "average_update",
    "cross_entropy",
    "dropout",
    "elementary",
    "embedding_forward",
    "embedding_gradients",
    "forced_here",
    "gather_forward",
    "gather_gradients",
    "gradient_norm",
    "gru_backward",
    "gru_forward",
    "gru_gradients",
    "linear_forward",
    "linear_gradients",
    "lstm_backward",
    "lstm_forward",
    "network_forward",
    "network_gradients",
    "network_losses",
    "network_prepare",
    "network_step",
    "pack",
    "processor",
    "recurrent_gradients",
    "rmsprop_update",
    "rnn_backward",
    "rnn_forward",
    "sample",
    "sgd_update",
    "train_windows",
]
