"""groups → loops: the schedule, and the writers of kernels."""
