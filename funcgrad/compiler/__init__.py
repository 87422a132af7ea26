"""From jaxprs to native kernels: fuse, lower to loops, schedule, emit, plan, run."""
