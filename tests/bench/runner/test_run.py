"""The runner: equal numbers whatever the jobs and interruptions, and no trial that takes others with it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from filelock import FileLock

from bench import run
from bench.cli.command import BAD_INPUT, INTERRUPTED
from bench.envs import fingerprint
from bench.runner import attempt, preparing, process, threads
from bench.runner.cost import Cost
from bench.store import files
from bench.store.trials import RECORD_COLUMNS, TABLES, read_trials
from bench.suite.trial import Trial
from bench.trial import session, worker
from bench.trial.link import Link

ROOT = Path(__file__).resolve().parents[3]
TINY: dict[str, Any] = {
    "name": "tiny",
    "steps": 100,
    "seeds": 1,
    "evaluate": {"every": 50, "episodes": 2},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 25}],
    "algorithms": {
        "ippo": None,
        "mappo": None,
        "happo": None,
        "hatrpo": None,
        "maddpg": {"warmup_steps": 0, "batch_size": 16, "buffer_size": 200},
    },
    "defaults": {"envs": 2, "rollout_length": 25, "hidden_sizes": [16]},
}
TWO: dict[str, Any] = {"algorithms": {"happo": None, "mappo": None}}
DRIVING: dict[str, Any] = {**TWO, "tasks": ["games/driving"]}
DIVERGES = {"algorithm": "happo", "actor_lr": 1e30, "critic_lr": 1e30}


pytestmark = pytest.mark.usefixtures("sigterm_as_before")


def write_suite(folder: Path, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
    return path


def main(folder: Path, *arguments: str, jobs: int = 1, priced: bool = False, **changes: Any) -> int:
    """bench.run in this process, without the seconds that measuring the costs takes unless it is to be `priced`."""
    path = write_suite(folder, **changes)
    with pytest.MonkeyPatch.context() as patch:
        if not priced:
            for module in (preparing, threads):
                patch.setattr(
                    module, "costs", lambda trials, env_threads, link: {t: Cost(1.0, 1e9, 1.0, 1.0) for t in trials}
                )
        return run.main([str(path), "--results", str(folder), "--jobs", str(jobs), *arguments])


def table(folder: Path, name: str) -> pd.DataFrame:
    """A joined table without what depends on the machine's speed."""
    times = {"records": "seconds", "updates": "steps_per_second"}
    return files.read_table(folder / "tiny" / f"{name}.parquet").drop(columns=times[name])


def test_a_folder_that_was_renamed_is_not_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "--only", "seed=0") == 0
    (tmp_path / "tiny").rename(tmp_path / "other")
    before = {path: path.read_bytes() for path in (tmp_path / "other").rglob("*.json")}
    assert main(tmp_path, "--set", "name=other") == BAD_INPUT
    assert "is a trial of suite 'tiny', not of 'other'" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "other").rglob("*.json")} == before


def assert_same_tables(one: Path, other: Path) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(table(one, name), table(other, name), check_exact=True)


def about(folder: Path) -> dict[str, dict[str, Any]]:
    """Every trial.json by its label."""
    return {a["algorithm"]: a for a in read_trials(folder / "tiny")}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def temporary(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny suite, run with one job and without interruption."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(folder, jobs=1) == 0
    return folder


# The numbers


def test_two_jobs_give_the_numbers_of_one(tmp_path: Path, alone: Path) -> None:
    assert main(tmp_path, jobs=2) == 0
    assert_same_tables(tmp_path, alone)
    assert not temporary(tmp_path)


def test_threads_for_the_physics_change_no_number(tmp_path: Path, alone: Path) -> None:
    assert main(tmp_path, "--env-threads", "2") == 0
    assert_same_tables(tmp_path, alone)


def test_the_joined_records_hold_every_trial(alone: Path) -> None:
    records = files.read_table(alone / "tiny" / "records.parquet")
    assert tuple(records.columns) == RECORD_COLUMNS
    assert set(records["algorithm"]) == set(TINY["algorithms"])
    assert set(records.groupby("algorithm").size()) == {3 * 2 + 20 + 20}


def test_a_part_run_later_gives_the_numbers_of_the_whole(tmp_path: Path, alone: Path) -> None:
    assert main(tmp_path, "--only", "algorithm=hatrpo,ippo") == 0
    assert main(tmp_path) == 0
    assert_same_tables(tmp_path, alone)


def test_adding_a_seed_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    assert main(tmp_path, **TWO) == 0
    before = snapshot(tmp_path / "tiny" / "trials")
    assert main(tmp_path, seeds=2, **TWO) == 0
    after = snapshot(tmp_path / "tiny" / "trials")
    assert {key: after[key] for key in before} == before
    assert len(read_trials(tmp_path / "tiny")) == 4


# What is there already


def test_one_of_each_is_no_plural(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["--only", "algorithm=happo"]
    assert main(tmp_path, *one, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("1 trial: 1 task x 1 algorithm x 1 seed -> ")
    assert main(tmp_path, *one) == 0
    assert main(tmp_path, *one, "--dry-run") == 0
    assert "  1 is done already, 0 to run" in capsys.readouterr().out


def test_done_trials_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, **TWO) == 0
    before = snapshot(tmp_path / "tiny" / "trials")
    capsys.readouterr()
    assert main(tmp_path, **TWO) == 0
    assert "2 are done already, 0 to run" in capsys.readouterr().out
    assert snapshot(tmp_path / "tiny" / "trials") == before


def test_a_changed_suite_of_the_same_name_is_refused_with_both_hashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, **TWO) == 0
    old = about(tmp_path)["happo"]["config_hash"]
    before = snapshot(tmp_path / "tiny")
    capsys.readouterr()
    assert main(tmp_path, "--set", "algorithms.happo.clip=0.1", **TWO) == BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert old in err
    assert "now " in err
    assert "(clip 0.2, now 0.1; config" in err
    new = err.partition(f"{old}, now ")[2][:12]
    assert new != old
    assert int(new, 16) >= 0
    assert snapshot(tmp_path / "tiny") == before


def test_another_budget_under_the_same_name_is_refused_even_for_other_algorithms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--only", "algorithm=happo", **TWO) == 0
    before = snapshot(tmp_path / "tiny")
    capsys.readouterr()
    assert main(tmp_path, steps=200, algorithms={"haippo": None}) == BAD_INPUT
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'steps': 100" in err
    assert "'steps': 200" in err
    assert snapshot(tmp_path / "tiny") == before


def test_a_trial_json_that_is_no_mapping_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "--only", "algorithm=happo", **TWO) == 0
    path = next(tmp_path.rglob("happo/seed-00/trial.json"))
    path.write_text("[]")
    assert main(tmp_path, **TWO) == BAD_INPUT
    err = capsys.readouterr().err
    assert f"{path}: carries no checksum" in err
    assert err.count("\n") == 1


def test_trials_that_were_not_selected_wait(tmp_path: Path) -> None:
    assert main(tmp_path, "--only", "algorithm=happo", **TWO) == 0
    assert {label: a["status"] for label, a in about(tmp_path).items()} == {"happo": "done", "mappo": "waiting"}


def test_the_suite_is_kept_beside_its_results_as_it_was_run(tmp_path: Path) -> None:
    assert main(tmp_path, "--set", "algorithms.happo.clip=0.1", **TWO) == 0
    kept = yaml.safe_load((tmp_path / "tiny" / "suite.yaml").read_text())
    assert kept == TINY | {"algorithms": {"happo": {"clip": 0.1}, "mappo": None}}


def test_a_dry_run_leaves_results_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, **TWO) == 0
    before = snapshot(tmp_path / "tiny")
    assert main(tmp_path, "--dry-run", seeds=2, **TWO) == 0
    assert "2 are done already, 2 to run" in capsys.readouterr().out
    assert snapshot(tmp_path / "tiny") == before


def test_other_physics_are_one_line_of_warning_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fingerprint, "verdict", lambda robot: "golden" if robot == "Ant" else "qvel[1] is off")
    names = ["mamujoco/Ant-2x4", "mamujoco/Hopper-3x1", "mamujoco/Hopper-1x3", "mamujoco/Swimmer-2x1"]
    assert main(tmp_path, "--dry-run", tasks=names, **TWO) == 0
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "(Hopper: qvel[1] is off; Swimmer: qvel[1] is off)" in line


def test_a_second_run_leaves_a_trial_to_the_run_at_work_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--only", "algorithm=happo", **TWO) == 0
    waiting = tmp_path.joinpath("tiny", "trials", "mamujoco_Hopper-3x1_episode_length=25", "mappo", "seed-00")
    stub, lock = (waiting / "trial.json").read_bytes(), FileLock(waiting / ".lock", thread_local=False)
    lock.acquire()
    letting_go = threading.Timer(1.5, lock.release)
    letting_go.start()
    assert main(tmp_path, **TWO) == 0
    letting_go.join()
    assert capsys.readouterr().out.count("Waiting for 1 trial of another run in") == 1
    assert (waiting / "trial.json").read_bytes() != stub


def test_a_corrupt_trial_json_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "--only", "algorithm=happo", **TWO) == 0
    path = next(tmp_path.rglob("happo/seed-00/trial.json"))
    path.write_text("{")
    assert main(tmp_path, **TWO) == BAD_INPUT
    err = capsys.readouterr().err
    assert str(path) in err
    assert err.count("\n") == 1


def test_a_done_trial_that_lost_its_records_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the table of all trials would lose them too, and the suite could never be completed."""
    assert main(tmp_path, **TWO) == 0
    path = next(tmp_path.rglob("happo/seed-00/records.parquet"))
    before = pd.read_parquet(path)["episode_return"]
    path.unlink()
    capsys.readouterr()
    assert main(tmp_path, **TWO) == 0
    assert "1 is done already, 1 to run" in capsys.readouterr().out
    pd.testing.assert_series_equal(pd.read_parquet(path)["episode_return"], before)


def test_a_corrupt_table_of_a_done_trial_is_named_when_tables_are_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--only", "algorithm=happo", **TWO) == 0
    path = next(tmp_path.rglob("happo/seed-00/records.parquet"))
    path.write_bytes(b"broken")
    capsys.readouterr()
    assert main(tmp_path, **TWO) != 0
    assert str(path) in capsys.readouterr().err.replace("...", "")
    assert about(tmp_path)["mappo"]["status"] == "done"


@pytest.fixture(params=["damaged", "full"])
def cannot_be_joined(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """A folder in which the tables of trials cannot be joined; what says so."""

    def no_space(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    if request.param == "full":
        monkeypatch.setattr("bench.runner.folder.merge", no_space)
        return "tiny: No space left on device"
    assert main(tmp_path, "--only", "algorithm=mappo", **DRIVING) == 0
    next(tmp_path.rglob("mappo/seed-00/records.parquet")).write_bytes(b"broken")
    capsys.readouterr()
    return "mappo/seed-00"


def test_tables_that_cannot_be_joined_are_status_1_after_what_failed(
    tmp_path: Path, cannot_be_joined: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(running: session.Session) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(session.Session, "train", train)
    assert main(tmp_path, **DRIVING) == 1
    failed, unjoined = capsys.readouterr().err.splitlines()
    assert "failed; the same command tries" in failed
    assert cannot_be_joined in unjoined


def test_tables_that_cannot_be_joined_after_ctrl_c_change_nothing_of_it(
    tmp_path: Path, cannot_be_joined: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(running: session.Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Session, "train", train)
    assert main(tmp_path, **DRIVING) == INTERRUPTED
    assert capsys.readouterr().err == "Stopped. The same command goes on from the last evaluation of each trial.\n"


def test_results_that_cannot_be_written_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").write_text("a file where a folder should be")
    assert main(tmp_path, **TWO) != 0
    err = capsys.readouterr().err
    assert str(tmp_path / "tiny") in err
    assert err.count("\n") == 1


# Trials that fail


def test_a_trial_that_diverges_leaves_the_others_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    algorithms = {"wild": DIVERGES, "mappo": None}
    assert main(tmp_path, priced=True, algorithms=algorithms) == 1
    assert "1 of 2 trials failed" in capsys.readouterr().err
    found = about(tmp_path)
    assert found["mappo"]["status"] == "done"
    assert found["wild"]["status"] == "failed"
    assert found["wild"]["error"].startswith("Diverged")
    updates = files.read_table(tmp_path / "tiny" / "updates.parquet")
    assert {"wild", "mappo"} == set(updates["algorithm"])
    done = snapshot(next(tmp_path.rglob("mappo/seed-00")))
    assert main(tmp_path, algorithms=algorithms) == 1  # the same command tries it again, and it alone
    assert about(tmp_path)["wild"]["attempts"] == 2
    assert snapshot(next(tmp_path.rglob("mappo/seed-00"))) == done


# Interruptions in this process


def test_a_keyboard_interrupt_stops_with_130_and_the_same_command_goes_on(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = session.Session.train, [0]

    def train(self: session.Session) -> None:
        calls[0] += 1
        if calls[0] == 6:  # the second update of the third trial
            raise KeyboardInterrupt
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        assert main(tmp_path) == INTERRUPTED
    assert "same command goes on" in capsys.readouterr().err
    statuses = [about(tmp_path)[label]["status"] for label in TINY["algorithms"]]
    assert statuses == ["done", "done", "stopped", "waiting", "waiting"]
    assert set(table(tmp_path, "records")["algorithm"]) == {"ippo", "mappo", "happo"}
    assert main(tmp_path) == 0
    assert_same_tables(tmp_path, alone)


def test_a_keyboard_interrupt_while_the_plan_is_made_stops_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "costs", costs)
    try:
        status = main(tmp_path, priced=True, **TWO)
    except KeyboardInterrupt:  # would end pytest
        pytest.fail("the interruption went through")
    assert status == INTERRUPTED
    assert not (tmp_path / "tiny").exists()


# The command itself


def members(group: int) -> list[str]:
    """The living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = stat.read_text().rpartition(") ")
        except OSError:  # ended while we looked
            continue
        state, _, process_group, *_ = rest.split()
        if int(process_group) == group and state not in "ZX":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for processes that were left behind")
@pytest.mark.long
@pytest.mark.parametrize("to_all", [True, False], ids=["as-from-a-terminal", "to-the-parent-alone"])
def test_ctrl_c_ends_the_command_and_all_its_workers_and_the_same_command_finishes(
    tmp_path: Path, to_all: bool
) -> None:
    enough: dict[str, Any] = {"steps": 800, **TWO}  # to be at work still when the signal comes
    path = write_suite(tmp_path, **enough)
    command = [sys.executable, "-m", "bench.run", str(path), "--results", str(tmp_path), "--jobs", "2"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits an ignored signal
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        while not list(tmp_path.rglob("updates.parquet")):
            assert process.poll() is None
            time.sleep(0.02)
        if to_all:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == INTERRUPTED
        assert "same command goes on" in err
        assert "Traceback" not in err
        for _ in range(100):  # joblib's resource tracker ends a moment after its parent
            if not members(process.pid):
                break
            time.sleep(0.05)
        assert members(process.pid) == []
    finally:
        if process.poll() is None or members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "stopped" in {a["status"] for a in about(tmp_path).values()}

    assert main(tmp_path, jobs=2, **enough) == 0
    assert temporary(tmp_path) == []
    (tmp_path / "whole").mkdir()
    assert main(tmp_path / "whole", jobs=2, **enough) == 0
    assert_same_tables(tmp_path, tmp_path / "whole")


@pytest.mark.long
def test_the_command_says_where_the_records_are_and_nothing_else_on_stderr(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    command = [sys.executable, "-m", "bench.run", str(path), "--results", str(tmp_path), "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(tmp_path / "tiny" / "records.parquet") in done.stdout
    assert done.stderr == "Measuring what 5 pairings will cost on this machine ...\n"


# Processes that die

whole_trial = worker.run


def dies_once(t: Trial, folder: Path, *arguments: Any, link: Link) -> worker.Outcome:
    """The process of `happo` is killed at its first attempt, in the middle of a write."""
    mark = folder.parent / "killed"
    if t.label == "happo" and not mark.exists():
        mark.touch()
        sync, calls = os.fsync, [0]

        def killed(descriptor: int) -> None:
            calls[0] += 1
            if calls[0] == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        os.fsync = killed  # type: ignore[assignment]
    return whole_trial(t, folder, *arguments, link=link)  # type: ignore[misc]


@pytest.fixture(scope="module")
def after_a_kill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny suite, one of whose processes was killed."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "run", dies_once)
        assert main(folder, jobs=2) == 0
    assert (folder / "killed").exists()
    return folder


def test_a_killed_process_costs_no_trial(after_a_kill: Path, alone: Path) -> None:
    assert {a["status"] for a in about(after_a_kill).values()} == {"done"}
    assert max(a["attempts"] for a in about(after_a_kill).values()) == 2
    assert_same_tables(after_a_kill, alone)


def test_a_killed_process_leaves_no_temporary_file_behind(after_a_kill: Path) -> None:
    assert temporary(after_a_kill) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Exits", "its process ended with status 0"),
        ("RaisesItsOwn", "OwnError: gone"),
        ("RaisesGeneratorExit", "GeneratorExit ("),
        ("Interrupts", "KeyboardInterrupt ("),
        ("Hangs", "made no step for 5 s"),
        ("Deaf", "made no step for 5 s"),
        ("Eats", "GB of memory, over 1.0 GB"),
    ],
)
def test_an_environment_that_takes_its_process_with_it_fails_its_own_trial_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.setattr(attempt, "MEMORY_FACTOR", 1.0)  # of the 1 GB that `main` says a trial takes
    monkeypatch.setattr(process, "GRACE_SECONDS", 2.0)
    tasks = [{"name": f"python:deadly_envs:{each}", "spared": os.getpid()} for each in (name, "Spared")]
    one: dict[str, Any] = {"algorithms": {"happo": None}, "tasks": tasks}
    assert main(tmp_path, "--stall", "5", "--retries", "0", jobs=2, **one) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 trials failed" in err, out
    assert reason in out
    found = {a["task"].split(":")[2]: a for a in read_trials(tmp_path / "tiny")}
    assert (found[name]["status"], found["Spared"]["status"]) == ("failed", "done")
    assert reason in found[name]["error"]
    assert (found[name]["attempts"], found["Spared"]["attempts"]) == (1, 1)


def test_a_trial_is_tried_again_as_often_as_asked_and_one_that_slurm_warns_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"name": f"python:deadly_envs:{each}", "spared": os.getpid()} for each in ("Exits", "Warned")]
    one: dict[str, Any] = {"algorithms": {"happo": None}, "tasks": tasks}
    assert main(tmp_path, "--retries", "2", jobs=2, **one) == 1
    assert capsys.readouterr().out.count(" again  ") == 2
    found = {a["task"].split(":")[2]: (a["status"], a["attempts"]) for a in read_trials(tmp_path / "tiny")}
    assert found == {"Exits": ("failed", 3), "Warned": ("done", 1)}


def test_a_trial_for_whose_process_no_more_files_may_be_open_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = process._context.Pipe, itertools.count()

    def pipe(**how: Any) -> Any:
        if next(calls) == 0:
            raise OSError(24, "Too many open files")
        return real(**how)

    monkeypatch.setattr(process._context, "Pipe", pipe)
    assert main(tmp_path, "--retries", "0", jobs=2, **DRIVING) == 1
    assert "1 of 2 trials failed" in capsys.readouterr().err
    failed, done = sorted(about(tmp_path).values(), key=lambda a: a["status"] == "done")
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert failed["error"] == "its process cannot be started: OSError: [Errno 24] Too many open files"


@pytest.mark.parametrize(
    ("name", "reason"), [("Exits", "its process ended with status 0"), ("Interrupts", "KeyboardInterrupt")]
)
def test_an_environment_that_ends_its_process_while_costs_are_measured_is_named(
    tmp_path: Path, name: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preparing, "call", process.call)  # in a process of its own, as where nobody patches it
    path = write_suite(tmp_path, tasks=[f"python:deadly_envs:{name}"], algorithms={"happo": None})
    assert run.main([str(path), "--results", str(tmp_path / "results"), "--dry-run"]) == BAD_INPUT
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"python:deadly_envs:{name}" in err
    assert reason in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "its process was ended by SIGKILL (killed, or out of memory?)"),
        (-11, "its process was ended by SIGSEGV"),
        (-40, "its process was ended by signal 40"),
        (3, "its process ended with status 3"),
    ],
)
def test_any_end_of_a_process_has_words(code: int, words: str) -> None:
    class Ended:
        exitcode = code

        def join(self, seconds: float) -> None:
            pass

    assert process._ending(Ended()) == words
