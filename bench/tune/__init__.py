"""Hyperparameter studies with equal budgets, on seeds that are never reported: `python -m bench.tune STUDY.yaml`."""
