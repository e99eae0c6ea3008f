"""Exported teams: actions equal to ours in a process that knows nothing of us, the card, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import bench
from algorithms import Discrete
from bench import export
from bench.store import files
from bench.store.trials import find_trial, identity, read_trial
from bench.trial import card, exported_policy, exporting
from bench.trial.exporting import export as write
from bench.trial.trained import TrainedTeam, load_team

pytest.importorskip("safetensors")

SMALL: dict[str, Any] = {"steps": 50, "episodes": 1, "envs": 2, "rollout_length": 25, "hidden_sizes": [16, 8]}
PLAIN, MIXED = "python:own_envs:Plain", "python:own_envs:Mixed"
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *((MIXED, method, {}) for method in ("ippo", "mappo", "happo", "hatrpo", "maddpg")),
    (PLAIN, "mappo", {"share_actors": True}),
    (PLAIN, "ippo", {"share_actors": "without_index"}),
]
"""Mixed: masked choices, choices in two components and continuous actions."""
LOADED = """
import sys
from pathlib import Path
import numpy as np
for folder in map(Path, sys.argv[1:]):
    sys.modules.pop("policy", None)
    sys.path[:0] = [str(folder)]
    from policy import Policy
    sys.path.pop(0)
    given = np.load(folder / "given.npz")
    count = len([name for name in given if name.startswith("seen")])
    masks = [given.get(f"mask{i}") for i in range(count)]
    actions = Policy().act([given[f"seen{i}"] for i in range(count)], masks)
    np.savez(folder / "made.npz", *[action.numpy() for action in actions])
assert not {"bench", "algorithms", "gymnasium", "pandas"} & {*sys.modules}
"""


def trained(folder: Path, method: str, task: str, settings: dict[str, Any]) -> Path:
    """The folder of a trial of one or two updates."""
    few: dict[str, Any] = {"warmup_steps": 0, "batch_size": 8, "n_step": 1} if method == "maddpg" else {}
    bench.train(method, task, results=folder, **SMALL, **few, **settings)
    return Path(bench.read(folder).trials["folder"][0])


def given(team: TrainedTeam, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """1,000 observations of each agent, some of them far out, and masks for those that have them."""
    random = np.random.default_rng(seed)
    scale = np.exp(random.normal(0, 2, (1000, 1)))
    seen = [(random.normal(0, 1, (1000, size)) * scale).astype(np.float32) for size in team.sizes.observation_sizes]
    masks: list[np.ndarray | None] = []
    for space, masked in zip(team.sizes.action_spaces, team.sizes.has_mask or [False] * len(seen), strict=True):
        mask = random.random((1000, space.choice_count)) < 0.6 if masked and isinstance(space, Discrete) else None
        if mask is not None:
            mask[:, 0] |= ~mask.any(axis=1)
        masks.append(mask)
    return seen, masks


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[TrainedTeam, Path]]:
    """The team and the folder of each case, whose loaders have acted in one bare process."""
    root, found = tmp_path_factory.mktemp("exported"), []
    for k, (task, method, settings) in enumerate(CASES):
        place, target = trained(root / f"results{k}", method, task, settings), root / str(k)
        write(place, target, "last")
        team = load_team(place, "last")
        seen, masks = given(team)
        arrays: dict[str, Any] = {f"seen{i}": x for i, x in enumerate(seen)}
        arrays |= {f"mask{i}": x for i, x in enumerate(masks) if x is not None}
        np.savez(target / "given.npz", **arrays)
        found.append((team, target))
    command = [sys.executable, "-I", "-c", LOADED, *(str(target) for _, target in found)]
    subprocess.run(command, check=True, cwd=root)
    return found


def test_masks_may_be_one_array(exported: list[tuple[TrainedTeam, Path]]) -> None:
    team, target = exported[-1]
    seen, _ = given(team)
    policy = exported_policy.Policy(target)
    none: Any = np.array([None] * len(seen))
    for ours, theirs in zip(policy.act(seen), policy.act(seen, none), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda k: "-".join(map(str, CASES[k])))
def test_a_bare_process_acts_as_we_do(exported: list[tuple[TrainedTeam, Path]], case: int) -> None:
    team, target = exported[case]
    seen, masks = given(team)
    with np.load(target / "made.npz") as made:
        for ours, theirs in zip(team.act(seen, masks), made.values(), strict=True):
            assert ours.shape == theirs.shape == (1000, ours.shape[1])
            assert ours.std() > 1e-3
            np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def happo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("happo"), "happo", PLAIN, {})


def test_a_trial_may_lie_near_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    records = pd.DataFrame({"kind": ["grid"]})
    monkeypatch.setattr(exporting, "read_table_of", lambda *_: records)
    assert exporting._records(Path("/team"), {"steps": 50}, 50) is records


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    status = export.main([*map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_configuration_says_whose_weights_they_are_and_how_they_were_trained(happo: Path, tmp_path: Path) -> None:
    write(happo, tmp_path / "new")
    config, about = json.loads((tmp_path / "new" / "config.json").read_text()), read_trial(happo / "trial.json")
    assert config["trial"] == identity(about)
    assert (config["settings"], config["provenance"]) == (about["settings"], about["provenance"])
    assert config["agents"][1] == {
        "observation_size": 2,
        "action": "continuous",
        "action_size": 1,
        "masked": False,
        "actor": 1,
    }
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "policy.py",
    ]


def test_the_card_has_the_head_of_the_hub_and_returns_over_episodes(happo: Path, tmp_path: Path) -> None:
    write(happo, tmp_path, "last")
    _, head, body = (tmp_path / "README.md").read_text().split("---\n", 2)
    final = bench.read(happo.parents[3]).records.query("kind == 'final'")["episode_return"]
    (result,) = yaml.safe_load(head)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == f"{final.mean():.2f} +/- {final.std():.2f}"
    assert f"| {final.mean():,.2f} | {final.std():,.2f} | {final.min():,.2f} to {final.max():,.2f} |" in body
    assert f"| config hash | {read_trial(happo / 'trial.json')['config_hash']} |" in body


def test_the_card_says_mean_and_spread_of_the_episodes() -> None:
    rows = [("final", 1.0), ("final", 2.0), ("final", 3.0), ("absolute", 5.0)]
    found = card.returns(pd.DataFrame(rows, columns=["kind", "episode_return"]))
    assert found["final"] == card.Returns(2.0, 1.0, 1.0, 3.0, 3)
    assert found["absolute"] == card.Returns(5.0, 0.0, 5.0, 5.0, 1)


def test_an_earlier_export_of_the_trial_is_replaced_and_hidden_files_stay(happo: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(happo, tmp_path, "best")
    write(happo, tmp_path, "last")
    assert json.loads((tmp_path / "config.json").read_text())["policy"] == "last"
    assert (tmp_path / ".git").is_dir()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.txt", "mine", "is not empty, and holds no export of a trial"),
        ("config.json", '{"model_type": "bert"}', "is not empty, and holds no export of a trial"),
        ("config.json", '{"trial": {"seed": 7}}', "holds an export of another trial: {'seed': 7}"),
    ],
)
def test_other_folders_are_left_as_they_are(
    happo: Path, tmp_path: Path, name: str, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    assert run(capsys, happo, tmp_path) == (2, "", f"bench.export: {tmp_path}: {said}\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, content)]


def test_a_file_is_no_folder(happo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(capsys, happo, tmp_path / "file") == (2, "", f"bench.export: {tmp_path / 'file'}: is no folder\n")


def test_tables_of_policies_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.train("exact", "games/driving", steps=50, episodes=1, envs=2, rollout_length=25, results=tmp_path / "results")
    status, _, err = run(capsys, tmp_path / "results" / "games/driving" / "exact" / "0", tmp_path / "new")
    assert (status, err.count("\n")) == (2, 1)
    assert "exact cannot be exported: its policy is none of the networks" in err
    assert not (tmp_path / "new").exists()


def test_without_safetensors_one_line_says_what_to_install(
    happo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = run(capsys, happo, tmp_path / "new")
    assert (status, err) == (2, "bench.export: needs the extra export: pip install -e '.[export]'\n")


def test_a_trial_that_is_not_done_is_refused(happo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_sealed_json(tmp_path / "trial.json", read_trial(happo / "trial.json") | {"status": "running"})
    assert find_trial(tmp_path) == tmp_path
    assert "this trial is running, not done" in run(capsys, tmp_path, tmp_path / "new")[2]
