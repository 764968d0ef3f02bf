"""Floor 3: networks: parameters, workspaces, and the calls of kernels."""
