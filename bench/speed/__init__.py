"""Measuring speed: `python -m bench.speed`."""
