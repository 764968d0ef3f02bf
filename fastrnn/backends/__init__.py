"""Floor 1: the backends: three implementations of the kernels that ``csrc/fastrnn.h`` states."""
