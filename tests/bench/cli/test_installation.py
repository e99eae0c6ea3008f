"""What messages say of installing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bench.cli import installation


def test_what_installs_an_extra_depends_on_whether_there_is_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installation.installing("video") == "pip install -e '.[video]'"
    monkeypatch.setattr(installation, "ROOT", tmp_path)
    assert installation.installing("video") == "pip install 'marl-trust-region-bench[video]'"


def test_the_distribution_has_the_name_of_the_project() -> None:
    project = tomllib.loads((installation.ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == installation.DISTRIBUTION
