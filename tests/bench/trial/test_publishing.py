"""Trained teams of a published suite: whose they are, and that they play, export and verify as those of trials do."""

from __future__ import annotations

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import bench
from bench import play, publish, run, verify
from bench.cli.command import BAD_INPUT
from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import ROUNDED, find_trial, joined, published_teams, read_trial
from bench.trial.playing import episodes
from bench.trial.publishing import from_the_median, rounded
from bench.trial.setup import evaluation_seeds

SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 200,
    "seeds": 3,
    "evaluate": {"every": 100, "episodes": 1},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 25}],
    "algorithms": {"happo": {}, "maddpg": {"warmup_steps": 50, "batch_size": 16, "buffer_size": 200}},
    "defaults": {"envs": 2, "rollout_length": 25, "hidden_sizes": [16]},
}


pytestmark = pytest.mark.usefixtures("sigterm_as_before", "costs_are_known")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of three seeds of two algorithms."""
    folder = tmp_path_factory.mktemp("publishing")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    assert run.main([str(folder / "tiny.yaml"), "--results", str(folder)]) == 0
    return folder / "tiny"


@pytest.fixture
def published(original: Path, tmp_path: Path) -> Path:
    publish.publish(original, tmp_path / "published" / "tiny")
    return tmp_path / "published" / "tiny"


def absolute(folder: Path, label: str) -> dict[int, float]:
    """Seed -> the mean return of the best policy on its fresh episodes."""
    records = joined(folder, "records")
    assert records is not None
    own = records[(records["kind"] == "absolute") & (records["algorithm"] == label)]
    return {seed: float(own["episode_return"][own["seed"] == seed].mean()) for seed in own["seed"].unique().tolist()}


def seeds(folder: Path) -> dict[str, int]:
    return {about["algorithm"]: about["seed"] for about in published_teams(folder).values()}


@pytest.mark.parametrize(
    ("returns", "order"),
    [({0: 5.0}, [0]), ({0: 1.0, 1: 9.0, 2: 4.0}, [2, 0, 1]), ({0: 1.0, 1: 9.0, 2: 4.0, 3: 5.0}, [2, 3, 0, 1])],
)
def test_seeds_stand_from_that_with_the_median_return_outwards(returns: dict[int, float], order: list[int]) -> None:
    assert from_the_median(returns) == order


def updates(count: int, measured_every: int) -> pd.DataFrame:
    """Of one agent and its team, with a measured improvement in every k-th update."""
    step = np.arange(1, count + 1)
    improvement = np.where(step % measured_every == 0, 1.0, np.nan)
    of_agent = pd.DataFrame({"task": "a task", "algorithm": "happo", "seed": 0, "agent": "0", "step": step})
    return pd.concat([of_agent.assign(improvement=improvement, agent=agent) for agent in ("0", "team")])


OWN = {("a task", "happo", 0)}


def test_updates_that_were_published_are_not_thinned_again() -> None:
    once = publish.thinned(updates(2000, 250), OWN)
    pd.testing.assert_frame_equal(publish.thinned(once, ()), once)


def test_of_many_updates_a_hundred_are_published_the_first_five_and_the_last_among_them() -> None:
    kept = publish.thinned(updates(2000, 250).drop(columns="improvement"), OWN)
    for _, own in kept.groupby("agent"):
        assert 95 <= len(own) <= 100
        assert own["step"].tolist()[:5] == [1, 2, 3, 4, 5]
        assert own["step"].max() == 2000


def test_no_update_around_which_the_return_was_measured_is_left_out() -> None:
    every = updates(2000, 250)
    kept = publish.thinned(every, OWN)
    measured = every[every["improvement"].notna()].reset_index(drop=True)
    assert len(measured) == 16
    pd.testing.assert_frame_equal(kept[kept["improvement"].notna()].reset_index(drop=True), measured)


def test_a_trial_that_ended_while_it_wrote_is_no_published_team(original: Path, tmp_path: Path) -> None:
    """Its policy and its fresh episodes are there, and `trial.json` never said that it was done."""
    folder = shutil.copytree(original, tmp_path / "tiny")
    median = sorted(absolute(folder, "happo").items(), key=lambda item: item[1])[1][0]
    place = find_trial(folder / "mamujoco/Hopper-3x1:episode_length=25" / "happo" / str(median))
    about = read_trial(place / "trial.json")
    del about["files"], about["last_evaluation"]
    files.write_sealed_json(place / "trial.json", about | {"status": "failed", "error": "OSError"})
    publish.publish(folder, tmp_path / "published")
    assert seeds(tmp_path / "published")["happo"] != median


def test_a_published_suite_that_went_on_is_whole_until_a_table_is_lost(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish.publish(original, tmp_path / "tiny", policies=False)
    suite = original.parent / "tiny.yaml"
    assert run.main([str(suite), "--results", str(tmp_path), "--set", "seeds=4", "--only", "algorithm=happo"]) == 0
    assert verify.main([str(tmp_path / "tiny")]) == 0
    (tmp_path / "tiny" / "updates.parquet").unlink()
    capsys.readouterr()
    assert verify.main([str(tmp_path / "tiny")]) == 1
    assert "updates.parquet: is missing; bring it back" in capsys.readouterr().out


def test_only_32_bit_matrices_are_rounded() -> None:
    state = {"weight": torch.full((2, 2), 1 / 3), "bias": torch.full((2,), 1 / 3), "table": torch.ones(2, 2).double()}
    made = rounded(state)
    assert {key: x.dtype for key, x in made.items()} == {
        "weight": torch.float16,
        "bias": torch.float32,
        "table": torch.float64,
    }
    torch.testing.assert_close(made["weight"].float(), state["weight"], rtol=2**-11, atol=0)


def test_the_team_with_the_median_return_is_published(original: Path, published: Path) -> None:
    for label in ("happo", "maddpg"):
        returns = absolute(original, label)
        assert returns[seeds(published)[label]] == sorted(returns.values())[1]
    assert not (published / "trials").exists()


def test_a_published_team_is_that_of_its_trial_to_the_rounding(original: Path, published: Path) -> None:
    for folder, about in published_teams(published).items():
        own = find_trial(original / about["task"] / about["algorithm"] / str(about["seed"]))
        saved, exact = bench.load_team(folder), bench.load_team(own)
        assert saved.settings == exact.settings
        shown = np.random.default_rng(0).normal(size=(3, 50, max(exact.sizes.observation_sizes)))
        seen = [x[:, :size] for x, size in zip(shown, exact.sizes.observation_sizes, strict=True)]
        for one, other in zip(saved.act(seen), exact.act(seen), strict=True):
            np.testing.assert_allclose(one, other, atol=5e-3)
            assert not np.array_equal(one, other)


def test_its_returns_are_those_that_are_recorded_to_the_rounding(published: Path) -> None:
    for folder, about in published_teams(published).items():
        team = bench.load_team(folder)
        played = [one.returns[0] for (one,) in episodes([team], evaluation_seeds("fresh", 10))]
        recorded = absolute(published, about["algorithm"])[about["seed"]]
        assert np.mean(played) == pytest.approx(recorded, rel=0.02)


def test_a_published_team_is_named_as_a_trial_is(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = seeds(published)["happo"]
    assert play.main([str(published / "Hopper-3x1" / "happo" / str(seed)), "--episodes", "1"]) == 0
    assert f"seed {seed}, best policy" in capsys.readouterr().out
    other = (seed + 1) % 3
    assert play.main([str(published / "Hopper-3x1" / "happo" / str(other))]) == 2
    assert f"no seed '{other}' in {published}; valid: {seed}" in capsys.readouterr().err


def test_the_last_policy_is_not_published(published: Path) -> None:
    (folder, *_) = published_teams(published)
    with pytest.raises(StoreError, match=r"has no policy 'last'; that of a published team has only the best$"):
        bench.load_team(folder, "last")


def test_teams_of_all_algorithms_are_side_by_side_whatever_their_seeds(published: Path) -> None:
    (folder, *_) = published_teams(published)
    about = files.read_sealed_json(folder / "trial.json")
    assert play._of_all_algorithms(folder, about) == [*published_teams(published)]


def test_teams_of_several_seeds_are_named_with_them(
    original: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [find_trial(original / "Hopper-3x1" / "happo" / seed) for seed in "01"]
    for teams, headers in ((folders, ["happo seed 0", "happo seed 1"]), (folders[:1], ["happo"])):
        how = Namespace(policy="best", sampled=False, seed=0, trial=folders[0])
        assert play._play(teams, None, 1, how) == 0
        first, labels, _ = capsys.readouterr().out.splitlines()
        assert re.split(r"\s{2,}", labels) == ["episode", *headers]
        assert (" seed 0, best policy" in first) == (len(teams) == 1)
    (folder, *_) = published_teams(published)
    assert play._own_place(folder, read_trial(folder / "trial.json"), grid=True).name == f"{folder.parents[1].name}.mp4"


def test_a_published_team_can_be_exported(original: Path, published: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the extra `dev` brings it")
    from bench.trial.exporting import export

    (folder, *_), seed = published_teams(published), seeds(published)["happo"]
    export(folder, tmp_path / "one")
    export(find_trial(original / "Hopper-3x1" / "happo" / str(seed)), tmp_path / "other")
    rounded_to = ", rounded to 16 bits after the episodes below"
    one, other = ((tmp_path / name / "README.md").read_text() for name in ("one", "other"))
    assert rounded_to in one
    assert one.replace(rounded_to, "") == other


def test_what_is_published_again_has_the_same_bytes(published: Path, tmp_path: Path) -> None:
    publish.publish(published, tmp_path / "again")
    for folder in published_teams(published):
        for name in ("policy.pt", "trial.json"):
            again = tmp_path / "again" / folder.relative_to(published) / name
            assert again.read_bytes() == (folder / name).read_bytes()


def without(folder: Path, copy: Path, *names: str) -> Path:
    """A copy of results before they had the trials whose folders have one of these names, or lie in one."""
    shutil.copytree(folder, copy)
    for name in names:
        for gone in [*copy.glob(f"trials/**/{name}")]:
            shutil.rmtree(gone)
    for table in copy.glob("*.parquet"):
        table.unlink()
    return copy


def test_a_team_that_is_no_more_the_median_is_replaced(original: Path, tmp_path: Path) -> None:
    """Two seeds, of which the lower one is published, and then three."""
    target = tmp_path / "tiny"
    publish.publish(without(original, tmp_path / "two" / "tiny", "seed-02", "maddpg"), target)
    returns = absolute(original, "happo")
    assert seeds(target) == {"happo": min((0, 1), key=lambda seed: returns[seed])}
    publish.publish(original, target)
    assert seeds(target)["happo"] == from_the_median(returns)[0]
    assert len(published_teams(target)) == 2


def test_results_that_went_on_from_published_ones_publish_the_team_that_is_nearest_to_the_median(
    original: Path, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "published"
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE | {"seeds": 4}, sort_keys=False))
    assert run.main([str(folder / "tiny.yaml"), "--results", str(folder)]) == 0
    capsys.readouterr()
    kept = seeds(published)
    assert publish.main([str(published), "--into", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    for label, seed in seeds(tmp_path / "again" / "tiny").items():
        order = from_the_median(absolute(published, label))
        assert seed == next(one for one in order if one in (kept[label], 3))
        said = f"{label}: the team is of seed {seed}, " in out
        assert said == (seed != order[0])


def test_results_are_not_published_over_more_than_they_are(original: Path, published: Path, tmp_path: Path) -> None:
    one = without(original, tmp_path / "one" / "tiny", "seed-01", "seed-02")
    with pytest.raises(StoreError, match=r"has 4 trials that .* has not: .* happo 1, .*; delete it if that is meant"):
        publish.publish(one, published)


def test_suites_and_studies_are_not_published_over_each_other(original: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("")
    with pytest.raises(StoreError, match="holds a study; publish the suite into another folder"):
        publish.publish(original, tmp_path)


def test_where_it_ran_the_published_form_is_named_file_by_file(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(original, tmp_path / "tiny")
    assert publish.main([str(tmp_path / "tiny"), "--into", str(tmp_path)]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    names = [word.removeprefix(f"{tmp_path / 'tiny'}/") for word in last.partition("git add -f ")[2].split()]
    assert {*names} == {
        *(f"{name}.parquet" for name in ("records", "updates", "trials")),
        "suite.yaml",
        "resolved.json",
        "policies",
    }


def test_a_report_that_is_older_is_said(published: Path, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (published / "report.html").write_text("")
    assert publish.main([str(original), "--into", str(published.parent)]) == 0
    assert f"The report there is older: python -m bench.report {published}" in capsys.readouterr().out


def test_trained_teams_are_found_by_the_table_of_trials_and_by_name(published: Path) -> None:
    trials = bench.read(published).trials
    named = trials[trials["folder"] != ""]
    assert {*named["folder"]} == {str(folder) for folder in published_teams(published)}
    assert len(trials) == 6
    for row in named.to_dict("records"):
        assert bench.load_team(row["folder"]).seed == row["seed"]
        assert (
            bench.load_team(published / row["task"] / row["algorithm"] / str(row["seed"])).algorithm == row["algorithm"]
        )


def test_a_team_that_is_lost_is_missed(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder, *_) = published_teams(published)
    shutil.rmtree(folder)
    assert verify.main([str(published)]) == 1
    assert (
        "policies: no team of mamujoco/Hopper-3x1:episode_length=25 happo; bring it back, or publish"
        in capsys.readouterr().out
    )


def test_results_are_whole_without_any_team(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish.main([str(original), "--into", str(tmp_path), "--without-policies"]) == 0
    assert not (tmp_path / "tiny/policies").exists()
    assert verify.main([str(tmp_path / "tiny")]) == 0
    assert "policies: none" in capsys.readouterr().out
    assert play.main([str(tmp_path / "tiny/Hopper-3x1/happo/0"), "--episodes", "1"]) == BAD_INPUT
    assert f"{tmp_path / 'tiny'} has the tables of its trials, and no policies" in capsys.readouterr().err


def test_published_teams_are_not_lost_to_a_publication_without(original: Path, published: Path, tmp_path: Path) -> None:
    """Whether it is to have none, or is of results that were published without."""
    before = (published / "trials.parquet").read_bytes()
    would_be_lost = r"policies: the trained team of .* happo, .* maddpg would be lost; delete that folder"
    with pytest.raises(StoreError, match=would_be_lost):
        publish.publish(original, published, policies=False)
    publish.publish(original, tmp_path / "without", policies=False)
    with pytest.raises(StoreError, match=would_be_lost):
        publish.publish(tmp_path / "without", published)
    assert len(published_teams(published)) == 2
    assert (published / "trials.parquet").read_bytes() == before


def test_teams_that_are_lost_are_missed_as_a_whole_and_not_published(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(published / "policies")
    assert verify.main([str(published)]) == 1
    assert "policies: no team of" in capsys.readouterr().out
    with pytest.raises(StoreError, match=r"team of .* happo, .* maddpg is not there any more; --without-policies"):
        publish.publish(published, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_run_that_goes_on_from_results_without_teams_publishes_those_it_has(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    publish.publish(original, folder / "tiny", policies=False)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE | {"seeds": 4}, sort_keys=False))
    assert run.main([str(folder / "tiny.yaml"), "--results", str(folder), "--only", "algorithm=happo"]) == 0
    publish.publish(folder / "tiny", tmp_path / "again" / "tiny")
    assert seeds(tmp_path / "again" / "tiny") == {"happo": 3}
    assert verify.main([str(tmp_path / "again" / "tiny")]) == 0


def test_a_changed_policy_is_seen(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(published)]) == 0
    assert "those of 2 trials" in capsys.readouterr().out
    (folder, *_) = published_teams(published)
    (folder / "policy.pt").write_bytes(b"changed")
    assert verify.main([str(published)]) == 1
    assert f"{folder / 'policy.pt'}: was damaged or changed" in capsys.readouterr().out


def test_results_without_a_table_that_their_trials_have_are_not_published(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (published / "updates.parquet").unlink()
    assert publish.main([str(published), "--into", str(tmp_path / "into")]) == BAD_INPUT
    assert "updates.parquet: is missing" in capsys.readouterr().err
    assert not (tmp_path / "into").exists()


def test_a_damaged_policy_is_not_published(original: Path, tmp_path: Path) -> None:
    seed = from_the_median(absolute(original, "happo"))[0]
    path = find_trial(original / "Hopper-3x1" / "happo" / str(seed)) / "policy.pt"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-100] + bytes(100))
        with pytest.raises(StoreError, match=r"policy.pt: was damaged or changed"):
            publish.publish(original, tmp_path / "tiny")
    finally:
        path.write_bytes(content)


def test_a_published_team_says_what_its_trial_said(original: Path, published: Path) -> None:
    for folder, about in published_teams(published).items():
        own = json.loads(
            (find_trial(original / about["task"] / about["algorithm"] / str(about["seed"])) / "trial.json").read_text()
        )
        said = json.loads((folder / "trial.json").read_text())
        assert {key for key in said if said[key] != own.get(key)} == {"files", files.SEAL, ROUNDED}
        assert [*about["files"]] == ["policy.pt"]
