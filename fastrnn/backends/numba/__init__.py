"""The kernels of ``csrc/fastrnn.h``, compiled by Numba.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. Each file
corresponds to the file of the same name in ``csrc/``. A kernel is compiled for a precision when it is first
called with it, and is cached on disk if there is a writable place. The cache notices a change in any file of
this folder. So no constant of a kernel comes from another folder.

Some parts are LLVM instructions, for exact operations and for speed: the micro-kernel of the matrix product,
the functions exp, tanh, sigmoid and log, the loops that apply them, and sums.
"""

from fastrnn.backends.numba.counts import count_symbols as _count_symbols
from fastrnn.backends.numba.counts import index_nodes as _index_nodes
from fastrnn.backends.numba.counts import keep_nodes as _keep_nodes
from fastrnn.backends.numba.counts import mix_losses as _mix_losses
from fastrnn.backends.numba.counts import mix_probabilities as _mix_probabilities
from fastrnn.backends.numba.counts import rank_nodes as _rank_nodes
from fastrnn.backends.numba.cross_entropy import cross_entropy as _cross_entropy
from fastrnn.backends.numba.dropout import dropout as _dropout
from fastrnn.backends.numba.elementary import elementary as _elementary
from fastrnn.backends.numba.gru import gru_backward as _gru_backward
from fastrnn.backends.numba.gru import gru_forward as _gru_forward
from fastrnn.backends.numba.gru import gru_gradients as _gru_gradients
from fastrnn.backends.numba.inference import network_forward, network_losses, network_read, network_step
from fastrnn.backends.numba.inference import network_prepare as _network_prepare
from fastrnn.backends.numba.jit import forced_here, kernel, processor
from fastrnn.backends.numba.linear import embedding_forward as _embedding_forward
from fastrnn.backends.numba.linear import embedding_gradients as _embedding_gradients
from fastrnn.backends.numba.linear import gather_forward as _gather_forward
from fastrnn.backends.numba.linear import gather_gradients as _gather_gradients
from fastrnn.backends.numba.linear import linear_forward as _linear_forward
from fastrnn.backends.numba.linear import linear_gradients as _linear_gradients
from fastrnn.backends.numba.linear import pack as _pack
from fastrnn.backends.numba.linear import recurrent_gradients as _recurrent_gradients
from fastrnn.backends.numba.lstm import lstm_backward as _lstm_backward
from fastrnn.backends.numba.lstm import lstm_forward as _lstm_forward
from fastrnn.backends.numba.network import network_gradients, train_windows
from fastrnn.backends.numba.rnn import rnn_backward as _rnn_backward
from fastrnn.backends.numba.rnn import rnn_forward as _rnn_forward
from fastrnn.backends.numba.sample import sample
from fastrnn.backends.numba.update import adagrad_update as _adagrad_update
from fastrnn.backends.numba.update import adam_update as _adam_update
from fastrnn.backends.numba.update import average_update as _average_update
from fastrnn.backends.numba.update import gradient_norm as _gradient_norm
from fastrnn.backends.numba.update import rmsprop_update as _rmsprop_update
from fastrnn.backends.numba.update import sgd_update as _sgd_update

__all__ = [
    "adagrad_update",
    "adam_update",
    "average_update",
    "count_symbols",
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
    "index_nodes",
    "keep_nodes",
    "linear_forward",
    "linear_gradients",
    "lstm_backward",
    "lstm_forward",
    "mix_losses",
    "mix_probabilities",
    "network_forward",
    "network_gradients",
    "network_losses",
    "network_prepare",
    "network_read",
    "network_step",
    "pack",
    "processor",
    "rank_nodes",
    "recurrent_gradients",
    "rmsprop_update",
    "rnn_backward",
    "rnn_forward",
    "sample",
    "sgd_update",
    "train_windows",
]

cross_entropy = kernel(_cross_entropy)
dropout = kernel(_dropout)
elementary = kernel(_elementary)
gru_forward = kernel(_gru_forward)
gru_backward = kernel(_gru_backward)
gru_gradients = kernel(_gru_gradients)
network_prepare = kernel(_network_prepare)
pack = kernel(_pack)
embedding_forward = kernel(_embedding_forward)
embedding_gradients = kernel(_embedding_gradients)
gather_forward = kernel(_gather_forward)
gather_gradients = kernel(_gather_gradients)
linear_forward = kernel(_linear_forward)
linear_gradients = kernel(_linear_gradients)
recurrent_gradients = kernel(_recurrent_gradients)
lstm_forward = kernel(_lstm_forward)
lstm_backward = kernel(_lstm_backward)
rnn_forward = kernel(_rnn_forward)
rnn_backward = kernel(_rnn_backward)
gradient_norm = kernel(_gradient_norm)
sgd_update = kernel(_sgd_update)
adagrad_update = kernel(_adagrad_update)
adam_update = kernel(_adam_update)
rmsprop_update = kernel(_rmsprop_update)
average_update = kernel(_average_update)
index_nodes = kernel(_index_nodes)
count_symbols = kernel(_count_symbols)
rank_nodes = kernel(_rank_nodes)
keep_nodes = kernel(_keep_nodes)
mix_losses = kernel(_mix_losses)
mix_probabilities = kernel(_mix_probabilities)
