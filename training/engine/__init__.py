"""How a network is trained: the loop, checkpoints, processes, progress."""
