"""Floor 1: the backends, which are three implementations of the kernels in ``csrc/fastrnn.h``."""
