"""What the papers reported: which panels there are, and which the best algorithm here exceeds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from test_report import write_trial

from bench.report import published
from bench.report.__main__ import main

CHEETAH, HOPPER = "mamujoco/HalfCheetah-2x3", "mamujoco/Hopper-3x1"


def returns(**final: float) -> pd.DataFrame:
    """Algorithm -> final return, on HalfCheetah-2x3."""
    rows = [
        {"task": CHEETAH, "algorithm": label, "final_iqm": value, "steps": 2_000_000, "seeds": 5}
        for label, value in final.items()
    ]
    return pd.DataFrame(rows)


def test_the_best_here_stands_beside_the_best_of_each_source() -> None:
    """Published after 10 million steps: 5,100 of HATRPO and 8,200 of MADDPG, who had 5,250 after 2 million."""
    rows = published.panels(returns(happo=6000.0, mappo=5000.0))
    assert rows == [
        {
            "task": "HalfCheetah-2x3",
            "source": source,
            "best here": "happo 6,000",
            "steps": "2,000,000",
            "seeds": "5",
            "best published, 10M steps": best,
            "exceeded": exceeded,
            "best published, as many steps": as_many,
            "exceeded there": there,
        }
        for source, best, exceeded, as_many, there in (
            ("Kuba et al. ICLR 2022", "hatrpo 5,100", "yes", "–", "–"),
            ("Zhong et al. JMLR 2024", "maddpg 8,200", "no", "maddpg 5,250", "yes"),
        )
    ]


def test_returns_that_cannot_be_told_apart_in_a_figure_are_level() -> None:
    """8,200 of MADDPG, read to 3%: 246."""
    for here, exceeded in ((8450.0, "yes"), (8440.0, "level"), (7960.0, "level"), (7950.0, "no")):
        assert published.panels(returns(happo=here))[1]["exceeded"] == exceeded


def test_observations_make_no_other_task_but_what_changes_returns_does() -> None:
    table = returns(happo=1.0)
    assert len(published.panels(table.assign(task=f"{CHEETAH}:observation=global"))) == 2
    assert published.panels(table.assign(task=f"{CHEETAH}:episode_length=25")) == []
    assert published.panels(table.assign(task="mpe/simple_spread")) == []


def test_algorithms_without_a_return_are_left_out() -> None:
    table = returns(happo=1.0, mappo=float("nan"))
    assert {row["best here"] for row in published.panels(table)} == {"happo 1"}
    assert published.panels(returns(mappo=float("nan"))) == []


def test_the_ten_tasks_of_the_published_suite_have_a_panel_each() -> None:
    tasks = [f"HalfCheetah-{x}" for x in ("2x3", "3x2", "6x1")] + [f"Walker2d-{x}" for x in ("2x3", "3x2", "6x1")]
    tasks += [f"Ant-{x}" for x in ("2x4", "4x2", "8x1")] + ["Hopper-3x1"]
    table = pd.concat([returns(happo=1.0).assign(task=f"mamujoco/{task}") for task in tasks])
    assert {row["task"] for row in published.panels(table)} == {*tasks}


def test_the_page_says_how_many_panels_are_exceeded(tmp_path: Path) -> None:
    suite = tmp_path / "demo"
    write_trial(suite, "happo", task=CHEETAH, final=6000.0)
    write_trial(suite, "happo", task=HOPPER, final=10.0)
    assert main([str(suite)]) == 0
    assert "exceeded in 1 of 3." in (suite / "report.html").read_text()
