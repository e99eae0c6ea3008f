"""Suites that come with the benchmark are found by name, from a checkout and from an installed wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from argparse import ArgumentTypeError
from dataclasses import fields
from pathlib import Path

import pytest

from bench import run
from bench.cli.command import BAD_INPUT
from bench.runner import preparing
from bench.runner.cost import Cost
from bench.suite.shipped import find, shipped
from bench.tune import __main__ as tune
from bench.tune import preparing as tuning_preparing

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(path.stem for path in (ROOT / "suites").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_suite_is_found_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(name).resolve() == ROOT / "suites" / f"{name}.yaml"


def test_an_address_is_no_suite() -> None:
    with pytest.raises(ArgumentTypeError, match=r"'s3://bucket/quick\.yaml' is no file of this machine"):
        find("s3://bucket/quick.yaml")


def test_a_file_comes_before_a_shipped_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").mkdir()  # a folder is no file
    (tmp_path / "quick").touch()
    assert find("quick") == Path("quick")
    assert find("paper").is_file()


@pytest.mark.parametrize("argument", ["quick.yaml", "suites/quik.yaml", "./quick"])
def test_what_is_no_name_stays_a_path(argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(argument) == Path(argument)


def test_run_and_tune_take_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def costs(trials: list[object], *_: object, **__: object) -> dict[object, Cost]:
        return {t: Cost(*[1.0] * len(fields(Cost))) for t in trials}

    monkeypatch.chdir(tmp_path)
    for module in (preparing, tuning_preparing):
        monkeypatch.setattr(module, "costs", costs)
    for module, name in ((run, "quick"), (tune, "tune_quick")):
        assert module.main([name, "--dry-run"]) == 0
        assert f"results/{name}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [run.main, tune.main])
def test_a_wrong_name_is_refused_with_the_shipped_ones_and_the_files_there(
    command: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert command(["quik"]) == BAD_INPUT  # type: ignore[operator]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"by name there are: {', '.join(NAMES)}; files there: mine.yaml" in said


def test_a_wheel_brings_the_suites_and_finds_them(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the extra `dev` brings it")
    build = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    code = "from bench.suite.shipped import find, shipped; print(find('quick'), *shipped())"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    file, *names = done.stdout.split()
    assert Path(file) == tmp_path / "site" / "bench" / "suites" / "quick.yaml"
    assert Path(file).read_bytes() == shipped()["quick"].read_bytes()
    assert names == NAMES
