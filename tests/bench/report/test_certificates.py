"""Certificates of updates, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import TASK, suite, write_trial

from bench import publish
from bench.report import certificates, certificates_page
from bench.report.__main__ import main
from bench.store import files
from bench.store.trials import identity, read_trial, trial_folder

__all__ = ["suite"]
DELTA = {"delta": 0.01, "envs": 4, "rollout_length": 100}


def row(agent: str, step: int = 100, algorithm: str = "hatrpo", seed: int = 0, **diagnostics: Any) -> dict[str, Any]:
    about = {"suite": "demo", "task": TASK, "algorithm": algorithm, "seed": seed, "step": step, "agent": agent}
    return about | diagnostics


def step(position: int, **diagnostics: Any) -> dict[str, Any]:
    """What a trust-region step that was accepted at once reports."""
    usual = {"kl_mean": 0.008, "kl_max": 0.1, "accepted": 1, "backtracks": 0, "predicted_gain": 0.2, "gain": 0.1}
    return {"position": position, "factor_max": 1.0, "factor_ess": 1.0} | usual | diagnostics


UPDATES = pd.DataFrame(
    [
        row("0", **step(1, kl_mean=0.004, kl_max=0.3, backtracks=2, gain=0.3, factor_ess=0.5, factor_max=7.0)),
        row("1", **step(0)),
        row("team", kl_joint=0.012, critic_loss=1.0),
        row("0", 200, **step(0, kl_mean=0.012)),
        row("1", 200, **step(1, kl_mean=0.0, kl_max=0.0, accepted=0, backtracks=10, gain=0.0, factor_ess=0.05)),
        row("team", 200, kl_joint=0.012, critic_loss=1.0),
    ]
)
TRIALS = [{"task": TASK, "algorithm": "hatrpo", "seed": 0, "settings": DELTA}]


def table(updates: pd.DataFrame, trials: list[dict[str, Any]] = TRIALS) -> dict[str, Any]:
    (found,) = certificates.table(certificates.prepared(updates, trials)).to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_the_table_by_hand() -> None:
    found = table(UPDATES)
    assert (found["task"], found["algorithm"], found["updates"]) == (TASK, "hatrpo", 4)
    assert found["kl_mean"] == pytest.approx(0.006)
    assert (found["kl_mean_max"], found["kl_max"]) == (0.012, 0.3)
    assert found["kl_joint"] == found["kl_joint_max"] == 0.012
    assert found["inside"] == 0.75  # 0.012 is beyond 0.01
    assert found["rejected"] == 0.25
    assert found["backtracks"] == pytest.approx(2 / 3)
    assert found["predicted_gain"] == pytest.approx(0.2)
    assert found["gain"] == pytest.approx(0.5 / 3)
    assert found["realised"] == pytest.approx(0.5 / 0.6)
    assert (found["factor_max"], found["ess"]) == (7.0, 0.75)
    assert found["ess_lowest"] == pytest.approx(0.275)
    assert np.isnan(found["clip_fraction"])


def test_the_joint_kl_is_the_sum_over_agents_where_it_was_not_recorded() -> None:
    found = table(UPDATES[UPDATES["agent"] != "team"].drop(columns="kl_joint"))
    assert found["kl_joint"] == pytest.approx(0.012)
    assert found["updates"] == 4


def test_a_trial_without_a_joint_kl_has_the_sum_of_its_agents() -> None:
    """As trials of older versions, beside others."""
    agents = [row(str(k), seed=1, **step(k, kl_mean=0.5)) for k in range(2)]
    found = table(pd.DataFrame([row("team", kl_joint=0.2), *agents]))
    assert (found["kl_joint"], found["kl_joint_max"]) == (0.6, 1.0)


def test_rounding_does_not_leave_the_trust_region() -> None:
    updates = pd.DataFrame([row("0", **step(0, kl_mean=0.01 + 1e-9)), row("1", **step(1, kl_mean=0.0101))])
    assert table(updates)["inside"] == 0.5


def test_without_a_delta_nothing_is_inside_or_outside() -> None:
    clip = pd.DataFrame([row("0", algorithm="happo", kl_mean=0.02, clip_fraction=0.3)])
    found = table(clip, [])
    assert found["clip_fraction"] == 0.3
    assert all(np.isnan(found[name]) for name in ("inside", "rejected", "backtracks", "realised", "ess", "gain"))


def test_a_method_that_records_nothing_of_this_has_dashes() -> None:
    found = certificates.prepared(pd.concat([UPDATES, pd.DataFrame([row("0", algorithm="maddpg", q_mean=1.0)])]))
    shown = certificates_page.rows(certificates.table(found, ["hatrpo", "maddpg"]))
    assert [line["algorithm"] for line in shown] == ["hatrpo", "maddpg"]
    assert {*shown[1].values()} == {"maddpg", "1", "–"}


def test_effective_samples_by_position_not_by_agent() -> None:
    found = certificates.positions(certificates.prepared(UPDATES, TRIALS))
    assert list(found["position"]) == [1, 2]
    assert list(found["ess"]) == pytest.approx([1.0, 0.275])
    assert list(found["samples"]) == pytest.approx([400, 110])


def test_the_lowest_position_is_marked_and_factors_of_one_are_left_out() -> None:
    places = certificates.positions(certificates.prepared(UPDATES, TRIALS))
    (line,) = certificates_page.position_rows(places)
    assert [cell["lowest"] for cell in line["cells"]] == [False, True]
    assert [cell["share"] for cell in line["cells"]] == ["1.000", "0.275"]
    assert certificates_page.position_rows(places.assign(ess=1.0)) == []


def test_where_hardly_any_sample_counts_the_page_says_so() -> None:
    places = certificates.positions(certificates.prepared(UPDATES, TRIALS)).assign(
        ess=[1.0, 0.0003], samples=[400, 0.12]
    )
    assert certificates_page.alerts(places) == [
        f"hatrpo on {TASK}: at 1 of 2 positions in the order of the update agents learn from less than a tenth of their"
        " samples; at position 2 from a share of 0.0003, about 1 sample."
    ]
    assert certificates_page.alerts(places.assign(ess=1.0)) == []


def test_over_training_is_the_median_over_seeds_and_agents() -> None:
    rows = [
        row("0", at, seed=seed, kl_mean=kl, gain=10 * kl)
        for at, kls in ((100, (0.1, 0.2, 0.9)), (200, (0.3, 0.5, 0.4)))
        for seed, kl in enumerate(kls)
    ]
    found = certificates.over_training(certificates.prepared(pd.DataFrame(rows)))
    assert list(found["step"]) == [100, 200]
    assert list(found["kl_mean"]) == [0.2, 0.4]
    assert list(found["gain"]) == [2.0, 4.0]


def test_over_training_has_at_most_sixty_points() -> None:
    rows = [row("0", 10 * at, kl_mean=float(at)) for at in range(1, 601)]
    found = certificates.over_training(certificates.prepared(pd.DataFrame(rows)))
    assert len(found) == 60
    assert (found["step"].iloc[-1], found["kl_mean"].iloc[0]) == (6000, 5.5)


def test_no_updates_give_empty_tables() -> None:
    empty = certificates.prepared(pd.DataFrame())
    for found in (certificates.table(empty), certificates.positions(empty), certificates.over_training(empty)):
        assert found.empty


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.500"), (0.0, "0.000"), (0.00031, "0.0003"), (1.0, "1.000")])
def test_a_share_shows_its_first_digit(value: float, shown: str) -> None:
    assert certificates_page.share(value) == shown


# on the page


def write_updates(suite: Path, algorithm: str, updates: pd.DataFrame) -> None:
    folder = trial_folder(suite, TASK, algorithm, 0)
    about = read_trial(folder / "trial.json")
    checksum = files.write_table(folder / "updates.parquet", updates.assign(algorithm=algorithm), identity(about))
    about["files"]["updates.parquet"] = checksum
    files.write_sealed_json(folder / "trial.json", about)


def test_a_folder_without_updates_says_so(suite: Path) -> None:
    write_trial(suite)
    assert main([str(suite)]) == 0
    assert "this folder has no table of updates" in (suite / "report.html").read_text()
    assert (suite / "certificates.csv").read_text().startswith("task,algorithm,updates,kl_mean,")


def test_the_page_and_the_file_have_the_certificates(suite: Path, tmp_path: Path) -> None:
    write_trial(suite, "hatrpo", settings=DELTA)
    write_updates(suite, "hatrpo", UPDATES)
    publish.publish(suite, tmp_path / "published")
    for folder in (suite, tmp_path / "published"):
        assert main([str(folder)]) == 0
        (found,) = pd.read_csv(folder / "certificates.csv").to_dict("records")
        assert (found["inside"], found["ess_position_2"]) == (0.75, 0.275)
        html = (folder / "report.html").read_text()
        assert "0.275<br>lowest" in html
        assert "KL and gain over training on" in html


def test_labels_are_escaped(suite: Path) -> None:
    label = "<script>alert('&\"')</script>" + 50 * "x"
    write_trial(suite, label, settings=DELTA)
    write_updates(suite, label, UPDATES)
    assert main([str(suite)]) == 0
    html = (suite / "report.html").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_columns_of_nan_are_no_error(suite: Path) -> None:
    write_trial(suite, "hatrpo")
    empty = UPDATES.assign(**dict.fromkeys(certificates.DIAGNOSTICS, np.nan))
    write_updates(suite, "hatrpo", empty)
    assert main([str(suite)]) == 0
    (found,) = pd.read_csv(suite / "certificates.csv").to_dict("records")
    assert found["updates"] == 4
    assert np.isnan(found["kl_mean"])
