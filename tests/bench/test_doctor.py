"""What the doctor says of a machine that is ready, and of what may be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import doctor
from bench.envs import fingerprint, gl
from bench.store.remote import Remote

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes seconds, and as from a shell."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(fingerprint, "verdict", lambda robot: "golden")
    monkeypatch.setattr(gl, "PROBE", "pass")
    monkeypatch.setattr(doctor, "versions", lambda: doctor.Finding("ok", "as told"))
    monkeypatch.setattr(doctor, "NEEDED_MEMORY", 0)
    monkeypatch.setattr(doctor, "NEEDED_DISK", 0)


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    status = doctor.main([*arguments])
    said = capsys.readouterr().out.splitlines()
    return status, {line[8:].partition(":")[0]: line for line in said}


def test_a_machine_that_is_ready(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, said = lines(capsys, "--results", str(tmp_path / "not" / "there"))
    assert (status, [line for line in said.values() if not line.startswith("ok")]) == (0, [])
    assert f"GB free in {tmp_path}" in said["disk"]


def test_a_store_is_asked_for_what_leases_need(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "cache"))
    _, said = lines(capsys, "--results", f"file://{tmp_path}/store")
    assert said["store"] == f"ok      store: file://{tmp_path}/store answers, and knows conditional writes"
    assert said["disk"].endswith(f"free in {tmp_path}")
    monkeypatch.setattr(Remote, "replace", lambda self, name, content, version: self.write(name, content))
    status, said = lines(capsys, "--results", f"file://{tmp_path}/store")
    assert status == 1
    assert "this store knows no conditional writes" in said["store"]


@pytest.mark.parametrize(
    ("name", "target", "value", "part"),
    [
        (
            "physics",
            (fingerprint, "verdict"),
            lambda robot: "qvel[1] is off",
            "robots move otherwise, Ant: qvel",
        ),
        ("disk", (doctor, "NEEDED_DISK"), 1e20, "choose another folder: --results DIR"),
        ("memory", (doctor, "NEEDED_MEMORY"), 1e20, "end other programs, or use --jobs 1"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, target: Any, value: Any, part: str
) -> None:
    monkeypatch.setattr(target[0], target[1], value)
    status, said = lines(capsys)
    assert status == 1
    assert said[name].startswith(f"FAILED  {name}: ")
    assert part.partition(" ")[2] in said[name]


def test_results_in_a_file_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        status, said = lines(capsys, "--results", str(tmp_path / name))
        assert status == 1
        assert said["disk"].endswith(f"{tmp_path / 'file'} is no folder; choose another one: --results DIR")


def test_threads_that_are_not_one_are_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    status, said = lines(capsys)
    assert (status, "unset OMP_NUM_THREADS" in said["threads"]) == (1, True)


def test_a_package_that_does_not_load_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, said = lines(capsys)
    assert status == 1
    assert said["plotting"].startswith("FAILED  plotting: ")
    assert "install again" in said["plotting"]


def test_a_machine_that_cannot_render_is_no_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gl, "PROBE", "raise SystemExit(1)")
    status, said = lines(capsys)
    assert status == 0
    assert said["rendering"].startswith("note    rendering: ")


def test_another_version_is_said_with_the_command_that_installs_the_right_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    (tmp_path / "constraints.txt").write_text("numpy==0.1\nnot-there==1.0\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    with pytest.raises(doctor.Broken, match=r"numpy [0-9.]+, not 0\.1; .*pip install -c constraints.txt"):
        doctor.versions()
    (tmp_path / "constraints.txt").unlink()
    assert doctor.versions().word == "note"


def test_a_folder_that_has_the_name_of_a_package_of_ours_is_said(tmp_path: Path) -> None:
    (tmp_path / "algorithms").mkdir()
    (tmp_path / "algorithms" / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench import doctor; print(doctor.packages())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "algorithms/__init__.py has the name of a package of ours; rename it" in done.stderr
