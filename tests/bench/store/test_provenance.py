"""Which code made a result."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from bench.store import provenance


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copied(folder: Path) -> Path:
    """A folder with the file that asks git, a file of an algorithm and a published table."""
    for name in ("bench/store/provenance.py", "algorithms/clip.py", "results/mine/records.parquet"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
    shutil.copy(provenance.__file__, folder / "bench/store/provenance.py")
    return folder


def committed(folder: Path) -> Path:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def told(folder: Path) -> dict[str, Any]:
    """What the copy in this folder says of itself."""
    spec = spec_from_file_location("copied_provenance", folder / "bench/store/provenance.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.provenance()
    return found


def test_a_checkout_without_changes_has_its_commit(tmp_path: Path) -> None:
    folder = committed(copied(tmp_path))
    found = told(folder)
    assert (found["commit"], found["dirty"]) == (git(folder, "rev-parse", "HEAD"), False)


def test_changed_code_is_an_uncommitted_change(tmp_path: Path) -> None:
    folder = committed(copied(tmp_path))
    (folder / "algorithms/clip.py").write_text("changed")
    assert told(folder)["dirty"] is True


def test_a_published_table_that_grows_is_no_change_of_the_code(tmp_path: Path) -> None:
    folder = committed(copied(tmp_path))
    (folder / "results/mine/records.parquet").write_text("more rows")
    assert told(folder)["dirty"] is False


@pytest.mark.parametrize("inside", [True, False])
def test_a_copy_that_is_no_checkout_has_no_commit(tmp_path: Path, inside: bool) -> None:
    if inside:  # an environment inside another project's checkout
        (tmp_path / "readme").touch()
        committed(tmp_path)
    found = told(copied(tmp_path / "site-packages"))
    assert (found["commit"], found["dirty"]) == ("unknown", None)
