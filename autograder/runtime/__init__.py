"""Where student code runs: kernels forked from a warm process into a sandbox."""
