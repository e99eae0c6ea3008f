"""Trained teams that play and are filmed: equal episodes, labels, one video of several teams, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bench
from bench import play
from bench.envs import gl
from bench.envs.gl import NoPictures
from bench.publish import publish
from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import find_trial, read_trial, trial_folder
from bench.trial import playing
from bench.trial.setup import episode_seeds

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
# Its reader, which only these tests use, leaves a pipe to be closed by the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TASK: dict[str, Any] = {"name": "python:own_envs:Drawn"}
SMALL: dict[str, Any] = {"steps": 100, "episodes": 1, "envs": 2, "rollout_length": 25, "hidden_sizes": [16]}
LABELS = ("happo", "ippo", "maddpg")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three algorithms on an environment that draws itself, in episodes of 12 steps."""
    folder = tmp_path_factory.mktemp("results") / "drawn"
    for label in LABELS:
        few: dict[str, Any] = {"warmup_steps": 0, "batch_size": 8} if label == "maddpg" else {}
        bench.train(label, TASK, results=folder, **SMALL, **few)
    return folder


@pytest.fixture(scope="module")
def happo(suite: Path) -> Path:
    return find_trial(suite / "python:own_envs:Drawn" / "happo" / "0")


def pictures(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(x, np.uint8).reshape(height, width, 3) for x in reader]


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str], str]:
    status = play.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


# finding a trial


@pytest.mark.parametrize("seed", ["0", "00", "seed-00"])
@pytest.mark.parametrize("task", ["python:own_envs:Drawn", "python_own_envs_Drawn"])
def test_a_trial_is_found_by_suite_task_algorithm_and_seed(suite: Path, happo: Path, task: str, seed: str) -> None:
    assert find_trial(suite / task / "happo" / seed) == happo
    assert find_trial(happo) == happo


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("python:own_envs:Draw/happo/0", "no task 'python:own_envs:Draw' in .*; valid: python:own_envs:Drawn$"),
        ("python:own_envs:Drawn/maddgp/0", "no algorithm 'maddgp' in .*; valid: maddpg, ippo, happo$"),
        ("python:own_envs:Drawn/happo/x", "no seed 'x' in .*; valid: 0$"),
        ("a/b", "the form is SUITE/task/algorithm/seed, with a task in .*; valid: python:own_envs:Drawn$"),
    ],
)
def test_what_names_no_trial_is_refused_with_what_is_there(suite: Path, named: str, said: str) -> None:
    with pytest.raises(StoreError, match=f"no trial there; {said}"):
        find_trial(suite / named)


def planned(suite: Path, *tasks: str) -> None:
    """Trials of HAPPO that have not begun."""
    about = {"suite": "s", "algorithm": "happo", "seed": 0, "config_hash": "", "status": "waiting"}
    for task in tasks:
        folder = trial_folder(suite, task, "happo", 0)
        files.write_sealed_json(folder / "trial.json", about | {"task": task, "steps": 1, "evaluate": {}})


@pytest.mark.parametrize("named", ["Ant-4x2:obsk=2", "mamujoco/Ant-4x2", "mamujoco/Ant-4x2:obsk=2", "Ant-4x2"])
def test_a_task_may_be_named_without_what_no_other_task_needs(tmp_path: Path, named: str) -> None:
    planned(tmp_path, "mamujoco/Ant-4x2:obsk=2", "mamujoco/Hopper-3x1")
    assert find_trial(tmp_path / named / "happo" / "0") == trial_folder(tmp_path, "mamujoco/Ant-4x2:obsk=2", "happo", 0)


def test_a_task_that_could_be_two_is_refused_with_both(tmp_path: Path) -> None:
    both = ("mamujoco/Ant-4x2:obsk=1", "mamujoco/Ant-4x2:obsk=2")
    planned(tmp_path, *both)
    with pytest.raises(StoreError) as refused:
        find_trial(tmp_path / "mamujoco/Ant-4x2/happo/0")
    assert all(label in str(refused.value) for label in both)


def test_outside_of_a_suite_a_trial_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"task/algorithm/seed$"):
        find_trial(tmp_path / "x")


# returns


def returns(lines: Sequence[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines if line.split()[0].isdigit()]


def test_filmed_or_not_equal_seeds_are_equal_episodes(
    happo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "two.mp4"
    _, plain, _ = run(capsys, happo, "--episodes", 2, "--seed", 3)
    status, filmed, _ = run(capsys, happo, "--episodes", 2, "--seed", 3, "--video", target)
    assert status == 0
    assert returns(plain) == returns(filmed)
    assert [line.split()[-2:] for line in returns(plain)] == [["in", "12"]] * 2
    assert filmed[-1] == str(target)


def test_the_returns_are_those_of_the_team(happo: Path) -> None:
    team = bench.load_team(happo)
    ended = [one.returns[0] for (one,) in playing.episodes([team], episode_seeds(5, 3))]
    np.testing.assert_allclose(ended, team.evaluate(3, seed=5), rtol=1e-5)


@pytest.mark.parametrize("label", ["happo", "maddpg"])
def test_sampled_actions_are_others_and_the_same_again(suite: Path, happo: Path, label: str) -> None:
    team = bench.load_team(Path(str(happo).replace("happo", label)))

    def played(sampled: bool) -> float:
        [[one]] = playing.episodes([team], episode_seeds(0, 1), sampled=sampled)
        return float(one.returns[0])

    assert played(True) == played(True) != played(False)


# videos


def test_a_video_shows_label_and_return_at_the_speed_of_the_environment(
    happo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, _ = run(capsys, happo, "--video")
    about, shown = pictures(happo / "play.mp4")
    assert (status, lines[-1]) == (0, str(happo / "play.mp4"))
    assert (about["codec"], about["fps"], about["size"]) == ("h264", 30, (480, 360 + playing.STRIP))
    assert len(shown) >= 1 + 12 // 2 + 30
    strips = [picture[: playing.STRIP].astype(int) for picture in shown]
    assert strips[0].max() > 200  # the text
    assert abs(strips[0] - strips[4]).max() > 100  # the return
    left, right = shown[0][200, 100], shown[0][200, 400]
    assert left.argmax() == 0
    assert right.argmax() == 2


def test_a_grid_shows_all_algorithms_of_the_suite_with_the_same_starts(
    suite: Path, happo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, _ = run(capsys, happo, "--grid")
    target = suite / "videos" / "python_own_envs_Drawn-seed-00.mp4"
    about, shown = pictures(target)
    assert (status, lines[-1], lines[1].split()) == (0, str(target), ["episode", *LABELS])
    assert about["size"] == (640, 2 * (240 + playing.STRIP))
    assert shown[0][400, 480].max() < 60  # the fourth place is empty
    single = run(capsys, str(happo).replace("happo", "ippo"), "--episodes", 1)[1]
    assert single[2].split()[1] == lines[2].split()[4]


def test_a_long_label_is_cut_where_the_return_begins() -> None:
    blank, long = (np.asarray(playing.labelled(Image.new("RGB", (320, 10)), x, "return 1.0")) for x in ("", "m" * 99))
    edge = np.flatnonzero((blank[: playing.STRIP] > 100).any(axis=(0, 2))).min()
    assert not (long[: playing.STRIP, edge - 8 : edge - 2] > 100).any()


# refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--video", "x.avi"], "--video x.avi: must end in .mp4"),
        (["--episodes", "0"], "'0' is not a whole number from 1 to 10000"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--policy", "worst"], "invalid choice: 'worst'"),
    ],
)
def test_bad_options_are_refused(
    happo: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        play.main([str(happo), *arguments])
    assert said in capsys.readouterr().err


def test_a_video_without_its_package_says_what_to_install(
    happo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    status, _, err = run(capsys, happo, "--video", tmp_path / "x.mp4")
    assert (status, err) == (2, "bench.play: a video needs the extra video: pip install -e '.[video]'\n")


def test_a_video_of_what_cannot_be_drawn_is_refused_before_anything_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    game: dict[str, Any] = {"steps": 40, "episodes": 1, "envs": 10, "rollout_length": 4, "hidden_sizes": [8]}
    bench.train("ippo", "games/driving", results=tmp_path, **game)
    arguments = (tmp_path / "games/driving/ippo/0", "--video", tmp_path / "x.mp4")
    capsys.readouterr()
    assert run(capsys, *arguments) == (2, [], "bench.play: this task has no pictures: it is a table of numbers\n")


def test_a_video_of_a_trial_in_a_store_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        play.main(["s3://bucket/quick/task/happo/0", "--grid"])
    assert "--video FILE.mp4 is needed: a video is not written into a store" in capsys.readouterr().err


def test_a_film_that_fails_leaves_no_file(happo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise NoPictures("the battery is empty")

    monkeypatch.setattr(playing.Scene, "advance", fail)
    assert play.main([str(happo), "--video", str(tmp_path / "x.mp4")]) == 2
    assert [*tmp_path.iterdir()] == []


def test_without_opengl_a_robot_is_not_filmed(
    happo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = read_trial(happo / "trial.json")
    about["provenance"]["physics"] = "golden"
    files.write_sealed_json(tmp_path / "trial.json", about)

    def none() -> str:
        raise NoPictures("no OpenGL")

    monkeypatch.setattr(gl, "way", none)
    assert run(capsys, tmp_path, "--video") == (2, [], "bench.play: no OpenGL\n")


def test_a_grid_leaves_out_what_is_not_done(suite: Path, happo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(str(happo).replace("happo", "maddpg")) / "trial.json"
    about = read_trial(other)
    try:
        files.write_sealed_json(other, about | {"status": "failed"})
        _, lines, err = run(capsys, happo, "--grid")
    finally:
        files.write_sealed_json(other, about)
    assert (lines[1].split(), err) == (["episode", "happo", "ippo"], "left out: maddpg, not done\n")


def test_a_grid_of_a_published_suite_that_went_on_has_its_published_teams(
    suite: Path, happo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(suite, tmp_path)
    place = tmp_path / happo.relative_to(suite)
    shutil.copytree(happo, place)
    _, lines, err = run(capsys, place, "--grid")
    assert (lines[1].split(), err) == (["episode", *LABELS], "")
    (gone,) = tmp_path.glob("policies/*/maddpg")
    shutil.rmtree(gone)
    _, lines, err = run(capsys, place, "--grid")
    assert (lines[1].split(), err) == (["episode", "happo", "ippo"], "left out: maddpg, without a team there\n")


def test_before_it_plays_nothing_imports_mujoco() -> None:
    code = "import sys, bench.play; assert not {'mujoco', 'torch', 'gymnasium'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
