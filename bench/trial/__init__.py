"""One trial: set-up, training and evaluation, checkpoints, status."""
