"""`python -m bench`: the list of commands, and the way to each."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import __main__ as listing

ROOT = Path(__file__).resolve().parents[3]


def commands() -> set[str]:
    """What `python -m bench.NAME` runs: files with a main, and folders with a __main__."""
    files = {path.stem for path in (ROOT / "bench").glob("*.py") if "def main(" in path.read_text()} - {"__main__"}
    return files | {path.parent.name for path in (ROOT / "bench").glob("*/__main__.py")}


def test_every_command_is_listed() -> None:
    assert {*listing.COMMANDS} == commands()
    assert all(find_spec(f"bench.{name}") for name in listing.COMMANDS)


def test_without_a_command_there_is_one_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([]) == 0
    lines = capsys.readouterr().out.partition("commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(listing.COMMANDS)


def test_an_unknown_command_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        listing.main(["rum"])
    assert "'rum' (choose from 'run', 'report'" in capsys.readouterr().err


def test_a_command_is_the_module_with_all_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(os, "execv", lambda *arguments: called.append(arguments))
    listing.main(["run", "quick", "--dry-run", "--set", "seeds=1", "--help"])
    arguments = ["-m", "bench.run", "quick", "--dry-run", "--set", "seeds=1", "--help"]
    assert called == [(sys.executable, [sys.executable, *arguments])]


def test_the_status_is_that_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "report", "nowhere"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bench.report: nowhere: no such folder")


def test_the_list_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\nfrom bench.__main__ import main\nmain([])\n"
        "assert not {'torch', 'numpy', 'gymnasium'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_the_console_script_is_the_list() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert getattr(import_module(module), name) is listing.main


def completed(line: str, folder: Path) -> list[str]:
    """What the Tab key offers at the end of a line, by the protocol of argcomplete's shell function."""
    module = line.split()[2]
    told = {"_ARGCOMPLETE": "3", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    told |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "offered")}
    command = [sys.executable, "-m", module]
    subprocess.run(command, env=os.environ | told, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return [word.strip() for word in (folder / "offered").read_text().split("\n")]


def test_a_shell_completes_options(tmp_path: Path) -> None:
    assert completed("python -m bench.report --ten", tmp_path) == ["--tensorboard"]


@pytest.mark.parametrize("name", listing.COMMANDS)
def test_every_command_tells_a_shell_that_it_completes(name: str) -> None:
    spec = find_spec(f"bench.{name}")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin)
    path = path.with_name("__main__.py") if path.name == "__init__.py" else path
    assert path.read_text().startswith("# PYTHON_ARGCOMPLETE_OK\n")
