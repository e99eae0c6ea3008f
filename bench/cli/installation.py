"""How this benchmark is installed, and the commands that install what it lacks, for messages."""

from __future__ import annotations

from pathlib import Path

DISTRIBUTION = "marl-trust-region-bench"
ROOT = Path(__file__).resolve().parents[2]
"""The folder that `bench` lies in."""


def is_checkout() -> bool:
    """Whether that is a checkout, and not where installed packages lie."""
    return (ROOT / "Makefile").exists()


def installing(extra: str) -> str:
    """The command that installs the packages of an extra."""
    return f"pip install -e '.[{extra}]'" if is_checkout() else f"pip install '{DISTRIBUTION}[{extra}]'"
