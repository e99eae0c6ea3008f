"""Files of results that are damaged, cut short or exchanged: refused in one line, repaired, or without effect."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import bench
from bench import publish
from bench.store import files
from bench.store.checksums import Damaged, check_archive
from bench.store.files import StoreError
from bench.store.trials import merge
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.trial import worker

SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 150,
    "seeds": 2,
    "evaluate": {"every": 50, "episodes": 1},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 25}],
    "algorithms": {"happo": None, "maddpg": {"warmup_steps": 10, "batch_size": 8, "buffer_size": 200}},
    "defaults": {"envs": 2, "rollout_length": 25, "hidden_sizes": [4]},
}
TIMES = ("seconds", "steps_per_second")


def planned(folder: Path) -> list[Trial]:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE, sort_keys=False))
    return trials(load(path)[0], path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished suite."""
    base = tmp_path_factory.mktemp("done")
    for trial in planned(base):
        assert worker.run(trial, base / "tiny").status == "done"
    merge(base / "tiny")
    return base / "tiny"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same suite, each trial with two checkpoints."""
    base = tmp_path_factory.mktemp("begun")
    for trial in planned(base):
        assert worker.run(trial, base / "tiny", until=100).status == "running"
    return base / "tiny"


def numbers(folder: Path) -> tuple[pd.DataFrame, ...]:
    """All that a user reads from a suite: its tables, and the weights of its teams."""
    found = bench.read(folder)
    weights = {}
    for place in found.trials["folder"]:
        for policy in ("best", "last"):
            team = bench.load_team(place, policy)
            weights[place[len(str(folder)) :], policy] = torch.cat(
                [x.flatten() for x in team.learner.policy.state_dict().values()]
            ).tolist()
    tables = (frame.drop(columns=[name for name in TIMES if name in frame]) for frame in found[:2])
    return (*tables, pd.DataFrame({"weights": pd.Series(weights)}))


def same(one: tuple[pd.DataFrame, ...], other: tuple[pd.DataFrame, ...]) -> bool:
    return all(mine.equals(theirs) for mine, theirs in zip(one, other, strict=True))


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def exchange(path: Path, draw: random.Random) -> None:
    """The file of that name of another trial, or of another kind."""
    suite = path.parents[4] if path.parent.name.startswith("seed") else path.parent
    others = sorted(p for p in suite.rglob(path.name) if p != path) or [p for p in suite.iterdir() if p != path]
    shutil.copyfile(draw.choice(others), path)


def damaged(suite: Path, target: Path, kinds: list[str], ways: list[Callable[..., None]], seed: int) -> Iterator[Path]:
    """Copies of a suite, each with one file damaged in one way; yields the damaged file."""
    for k in range(len(kinds) * len(ways)):
        draw = random.Random(f"{seed} {k}")
        copy = target / str(k)
        shutil.copytree(suite, copy)
        path = draw.choice(sorted(copy.rglob(kinds[k % len(kinds)])))
        ways[k // len(kinds)](path, draw)
        yield path
        shutil.rmtree(copy)


def refusal(read: Callable[[], Any]) -> str:
    """In which words a user is refused; empty if that does not happen."""
    try:
        read()
    except (StoreError, ValueError) as error:
        return str(error)
    return ""


MANY = pytest.param([flip] * 40 + [cut] * 7 + [exchange] * 7, marks=pytest.mark.long)


@pytest.mark.parametrize("ways", [[flip] * 4 + [cut, exchange], MANY])
def test_damage_to_finished_results_changes_no_number(
    tmp_path: Path, done: Path, ways: list[Callable[..., None]]
) -> None:
    whole, refused = numbers(done), 0
    kinds = ["trial.json", "records.parquet", "updates.parquet", "policy.pt"]
    for path in damaged(done, tmp_path, kinds, ways, 0):
        suite = tmp_path / path.relative_to(tmp_path).parts[0]
        if words := refusal(lambda: numbers(suite)):  # noqa: B023
            assert "\n" not in words, path
            assert str(suite) in words, path
            refused += 1
        else:
            assert same(numbers(suite), whole), path
    assert refused > len(kinds) * len(ways) / 2


@pytest.mark.parametrize("ways", [[flip] * 3 + [cut, exchange], MANY])
def test_damage_to_a_trial_that_is_interrupted_changes_no_number(
    tmp_path: Path, done: Path, begun: Path, ways: list[Callable[..., None]]
) -> None:
    plan = {t.folder(Path()): t for t in planned(tmp_path)}
    kinds = ["trial.json", "checkpoint.pt", "checkpoint.previous.pt", "records.parquet", "updates.parquet"]
    for path in damaged(begun, tmp_path / "copies", kinds, ways, 1):
        suite = tmp_path / "copies" / path.relative_to(tmp_path / "copies").parts[0]
        place = path.parent.relative_to(suite)
        outcome = worker.run(plan[place], suite)
        if outcome.status == "failed":
            assert path.name in ("trial.json", "checkpoint.pt")  # of all else there is another copy
            assert "\n" not in outcome.error
            assert str(suite) in outcome.error
            assert "delete" in outcome.error or "trial.json" in outcome.error
            continue
        for name in ("records.parquet", "updates.parquet"):
            one, other = (files.read_table(root / place / name) for root in (suite, done))
            times = [column for column in TIMES if column in one]
            pd.testing.assert_frame_equal(one.drop(columns=times), other.drop(columns=times), check_exact=True)


@pytest.mark.parametrize(
    "ways", [[flip] * 6 + [cut] * 2, pytest.param([flip] * 40 + [cut] * 10, marks=pytest.mark.long)]
)
def test_damage_to_a_published_suite_is_refused(tmp_path: Path, done: Path, ways: list[Callable[..., None]]) -> None:
    published = tmp_path / "published"
    publish.publish(done, published / "tiny")
    for path in damaged(published / "tiny", tmp_path / "copies", ["*.parquet"], ways, 2):
        words = refusal(lambda: bench.read(path.parent))  # noqa: B023
        assert str(path) in words
        assert "\n" not in words


def test_an_archive_whose_parts_seem_to_lie_before_its_beginning_is_damaged(tmp_path: Path) -> None:
    """A bit in the offset of the zip's directory: zipfile then seeks to where no file begins, which is an OSError."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"x": torch.zeros(3)}, path)
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\x06\x06") + 50] ^= 1  # offset of the directory, at 48 of the zip64 record
    path.write_bytes(content)
    with pytest.raises(Damaged):
        check_archive(path)
