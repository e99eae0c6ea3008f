"""What the server of processes imports, for all that it forks; what is there then is no garbage that any looks for."""

import gc

gc.disable()

import torch._dynamo  # noqa: F401, E402  # torch imports its compiler with the first optimiser, though it compiles nothing

import bench.trial.worker  # noqa: F401, E402

gc.freeze()
gc.enable()
