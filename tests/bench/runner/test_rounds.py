"""`--until decided`: seeds are added while claims are open, for the algorithms in question only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_run import DIVERGES, main

from bench import run
from bench.cli.command import BAD_INPUT, INTERRUPTED
from bench.store.resolved import Resolved
from bench.store.trials import read_trials
from bench.trial.session import Session

HOPPER = "mamujoco/Hopper-3x1:episode_length=25"
CLAIMS = {"beats": {"says": "It does.", "algorithms": ["happo"], "against": ["mappo"]}}
THREE: dict[str, Any] = {"algorithms": {"happo": None, "mappo": None, "ippo": None}, "claims": CLAIMS}

pytestmark = pytest.mark.usefixtures("sigterm_as_before")


def there(folder: Path) -> set[tuple[str, int]]:
    return {(about["algorithm"], about["seed"]) for about in read_trials(folder / "tiny") if about["status"] == "done"}


def test_seeds_are_added_for_what_is_open_until_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([({(HOPPER, "happo"), (HOPPER, "mappo")}, ["beats"]), (set(), [])])
    monkeypatch.setattr(run, "judged", lambda results: next(answers))
    assert main(tmp_path, "--until", "decided", "--max-seeds", "4", **THREE) == 0
    assert there(tmp_path) == {("ippo", 0), *((label, seed) for label in ("happo", "mappo") for seed in (0, 1))}
    assert all(about["status"] == "done" for about in read_trials(tmp_path / "tiny"))  # none waits in vain
    out = capsys.readouterr().out
    assert "With 1 seed claims about happo, mappo are undecided." in out
    assert "Decided with 2 seeds: at least 6 trials of the plan not needed." in out
    found = Resolved.read(tmp_path / "tiny")
    assert found is not None
    assert found.looks == [1, 2, 3, 4]
    assert found.agents == {HOPPER: 3}
    assert [*found.claims] == ["beats"]


def test_the_most_seeds_end_it_and_the_same_command_runs_nothing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds decide nothing: the report itself says so here."""
    for _ in range(2):
        assert main(tmp_path, "--until", "decided", "--max-seeds", "2", **THREE, tasks=["games/driving"]) == 0
        assert "Undecided with 2 seeds, the most that --max-seeds allows." in capsys.readouterr().out
    assert there(tmp_path) == {("ippo", 0), *((label, seed) for label in ("happo", "mappo") for seed in (0, 1))}
    assert {about["attempts"] for about in read_trials(tmp_path / "tiny")} == {1}


def test_fewer_seeds_than_before_are_the_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "judged", lambda results: (set(), []))
    assert main(tmp_path, "--until", "decided", "--max-seeds", "4", **THREE) == 0
    monkeypatch.setattr(run, "judged", lambda results: ({(HOPPER, "happo")}, ["beats"]))
    assert main(tmp_path, "--until", "decided", "--max-seeds", "2", **THREE) == 0
    assert capsys.readouterr().out.endswith("Undecided with 2 seeds, the most that --max-seeds allows.\n")


def test_where_all_trials_of_a_round_failed_that_is_no_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Session) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Session, "begin", broken)
    assert main(tmp_path, "--until", "decided", "--max-seeds", "2", **THREE) == 1
    assert "no records yet" in capsys.readouterr().err


def test_claims_are_not_decided_anew_by_other_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, **THREE) == 0
    assert main(tmp_path, "--set", "first_seed=5", **THREE) == BAD_INPUT
    assert "first_seed: 5, and its claims are decided by the seeds from 0 on" in capsys.readouterr().err


def test_ctrl_c_ends_all_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "train", interrupted)
    monkeypatch.setattr(run, "judged", lambda results: pytest.fail("judged"))
    assert main(tmp_path, "--until", "decided", "--max-seeds", "4", **THREE) == INTERRUPTED
    assert {about["seed"] for about in read_trials(tmp_path / "tiny")} == {0}


def test_claims_stand_once_there_are_results_and_every_look_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "judged", lambda results: (set(), []))
    for most, looks in ((3, [1, 2, 3]), (4, [1, 2, 3, 4]), (2, [1, 2, 3, 4])):
        assert main(tmp_path, "--until", "decided", "--max-seeds", str(most), **THREE) == 0
        found = Resolved.read(tmp_path / "tiny")
        assert found is not None
        assert found.looks == looks
    capsys.readouterr()
    wider = {"claims": {"beats": CLAIMS["beats"] | {"margin": 0.3}}}
    assert main(tmp_path, **THREE | wider) == BAD_INPUT
    assert "claims.beats: margin is 0.3 and was 0.1, but it was stated before the results" in capsys.readouterr().err
    assert Resolved.read(tmp_path / "tiny") == found


def test_a_trial_that_fails_is_not_run_again_for_every_seed_that_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_pairings = {("games/driving", "wild"), ("games/driving", "mappo")}
    monkeypatch.setattr(run, "judged", lambda results: (open_pairings, ["beats"]))
    two: dict[str, Any] = {"algorithms": {"wild": DIVERGES, "mappo": None}, "tasks": ["games/driving"]}
    two["claims"] = {"beats": CLAIMS["beats"] | {"algorithms": ["wild"]}}
    assert main(tmp_path, "--until", "decided", "--max-seeds", "3", **two) == 1
    failed = [about for about in read_trials(tmp_path / "tiny") if about["status"] == "failed"]
    assert [(about["seed"], about["attempts"]) for about in failed] == [(0, 1)]
    assert capsys.readouterr().err == "1 of 2 trials failed; the same command tries it again\n"


@pytest.mark.parametrize(
    "changes",
    [
        {},  # a task without reference scores
        {
            "tasks": ["mamujoco/Hopper-3x1"],
            "evaluate": {"every": 50, "episodes": 1},
            "claims": {"falls": {"says": "It falls.", "kind": "improves_monotonically", "algorithms": ["happo"]}},
        },
    ],
    ids=["no reference", "not measured"],
)
def test_no_seed_is_added_where_none_would_decide(
    tmp_path: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--until", "decided", "--max-seeds", "4", **THREE | changes) == 0
    (name,) = (THREE | changes)["claims"]
    assert f"With 1 seed undecided, and no more seeds would decide: {name}." in capsys.readouterr().out
    assert {seed for _, seed in there(tmp_path)} == {0}


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        (["--until", "decided"], {}, "--until decided needs --max-seeds N"),
        (["--max-seeds", "9"], {}, "--until decided needs --max-seeds N"),
        (["--until", "decided", "--max-seeds", "9", "--only", "seed=0"], {}, "the whole suite: no --only"),
        (["--until", "decided", "--max-seeds", "1"], {}, "--max-seeds 1 is no more than the suite's own seeds: 1"),
        (["--until", "decided", "--max-seeds", "9"], {"claims": {}}, "claims: missing; --until decided needs"),
    ],
)
def test_bad_combinations_are_refused(
    tmp_path: Path,
    arguments: list[str],
    changes: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = main(tmp_path, *arguments, **THREE | changes)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()
