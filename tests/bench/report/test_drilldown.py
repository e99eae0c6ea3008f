"""One entry per trial, and settings in full, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from test_report import TASK, states_of, suite, write_trial

from algorithms import METHODS
from bench import publish
from bench.report import drilldown, page
from bench.report.__main__ import main
from bench.report.load import SuiteResults, load
from bench.store import files
from bench.store.resolved import Algorithm, Resolved
from bench.suite.resolving import resolved
from bench.suite.trial import Trial
from bench.tasks import registry

__all__ = ["suite"]
LONG = "<script>alert('&\"')</script>" + 50 * "x"

TRACEBACK = (
    100 * '  File "/home/somebody/benchmark/bench/trial/session.py", line 77, in train_until\n    self.train()\n'
)


def write_resolved(suite: Path, **defaults: Any) -> None:
    about = Algorithm("mappo", "what it is", False, defaults)
    Resolved(["mappo"], [TASK], {"mappo": about}, []).write(suite)


def entries(suite: Path) -> list[drilldown.Entry]:
    return drilldown.entries(load(suite), states_of(suite))


def test_an_entry_by_hand(suite: Path) -> None:
    write_trial(suite, seed=3, final=1234.5, absolute=25.0, attempts=2)
    (entry,) = entries(suite)
    assert (entry.task, entry.algorithm, entry.seed, entry.state) == (TASK, "mappo", 3, "done")
    assert entry.facts == {
        "steps": "200 of 200",
        "final return": "1,234.5",
        "absolute return": "25",
        "seconds of training": "4",
        "attempts": "2",
        "commit": "c0ffee",
        "versions": "mujoco 3.5.0",
        "processor": "some CPU",
    }
    (line,) = entry.sparklines
    assert line == drilldown.Sparkline("return", "M0 24L60 12L120 0", "0", "20")


def test_settings_are_compared_with_the_defaults_that_were_stored(suite: Path) -> None:
    write_trial(suite, settings={"clip": 0.1, "hidden_sizes": [8, 8], "gamma": 0.99, "own": 1})
    (entry,) = entries(suite)
    assert entry.changed is None
    write_resolved(suite, clip=0.2, hidden_sizes=[128], gamma=0.99)
    (entry,) = entries(suite)
    assert entry.changed == [("clip", "0.1", "0.2"), ("hidden_sizes", "8 x 8", "128")]


def test_what_was_resolved_before_defaults_were_stored_is_read(suite: Path) -> None:
    write_trial(suite)
    write_resolved(suite)
    old = files.read_json(suite / "resolved.json")
    del old["algorithms"]["mappo"]["defaults"], old["checksum"]
    files.write_sealed_json(suite / "resolved.json", old)
    (entry,) = entries(suite)
    assert entry.changed is None
    assert main([str(suite)]) == 0
    assert "the defaults to compare with are not recorded" in (suite / "report.html").read_text()


def test_a_suite_stores_the_defaults_of_its_methods(tmp_path: Path) -> None:
    method, task = METHODS["happo"], registry.task("mamujoco/Hopper-3x1", {})
    one = Trial("demo", task, "mine", method, method.configure({"clip": 0.1}), 0, 4000, 4000, 1)
    resolved([one]).write(tmp_path)
    stored = Resolved.read(tmp_path)
    assert stored is not None
    defaults = stored.algorithms["mine"].defaults
    assert defaults["clip"] == 0.2
    assert defaults["hidden_sizes"] == [128, 128, 128]
    assert set(defaults) == {field.name for field in dataclasses.fields(method.settings)}


def test_a_failed_trial_has_its_error_and_the_end_of_its_traceback(suite: Path) -> None:
    traceback = "\n".join(f"line {i}" for i in range(1000))
    write_trial(suite, final=None, absolute=None, status="failed", error="E: boom", traceback=traceback)
    (entry,) = entries(suite)
    assert (entry.state, entry.error) == ("failed", "E: boom")
    assert entry.traceback.startswith("…")
    assert entry.traceback.endswith("line 998\nline 999")
    assert len(entry.traceback) == drilldown.LONGEST_TRACEBACK + 1
    assert "final return" not in entry.facts


def test_a_trial_without_records_has_no_line(suite: Path) -> None:
    write_trial(suite)
    write_trial(suite, seed=1, returns=(), final=None, absolute=None, status="waiting")
    waiting = entries(suite)[1]
    assert (waiting.state, waiting.sparklines, waiting.facts["steps"]) == ("waiting", [], "0 of 200")


def test_lines_of_diagnostics_are_means_over_agents() -> None:
    updates = pd.DataFrame(
        {
            "task": TASK,
            "algorithm": "happo",
            "seed": 0,
            "step": [10, 10, 10, 20, 20, 20],
            "agent": ["0", "1", "team"] * 2,
            "kl_mean": [1.0, 3.0, np.nan, 5.0, 7.0, np.nan],
            "critic_loss": [np.nan, np.nan, 0.5, np.nan, np.nan, 0.25],
            "q_mean": np.nan,
        }
    )
    none = pd.DataFrame(columns=["task", "algorithm", "seed", "kind", "step", "episode_return"])
    found = drilldown.sparklines(none, updates)[TASK, "happo", 0]
    assert [(line.name, line.low, line.high, line.path) for line in found] == [
        ("KL", "2", "6", "M0 24L120 0"),
        ("critic loss", "0.25", "0.5", "M0 0L120 24"),
    ]


def test_a_line_has_at_most_sixty_points_and_leaves_out_what_is_not_finite() -> None:
    x = np.arange(1000.0)
    (line,) = drilldown._line("a", x, np.where(x % 2, np.nan, x))
    assert line.path.count("L") + 1 == 60
    assert (line.low, line.high) == ("0", "998")
    assert drilldown._line("a", x, np.full(1000, np.nan)) == []


def test_a_constant_line_lies_in_the_middle() -> None:
    assert drilldown.path(np.array([0.0, 5.0]), np.array([3.0, 3.0])) == "M0 12L120 12"


def test_settings_in_full_say_where_they_differ(suite: Path) -> None:
    write_trial(suite, task="a", settings={"clip": 0.2, "gamma": 0.99})
    write_trial(suite, task="b", settings={"clip": 0.1, "gamma": 0.99})
    write_resolved(suite, clip=0.2)
    assert drilldown.settings_tables(load(suite)) == {
        "mappo": [("clip", "0.2 on a; 0.1 on b", "0.2"), ("gamma", "0.99", "–")]
    }


def test_the_page_has_an_entry_for_every_trial(suite: Path, tmp_path: Path) -> None:
    write_trial(suite, seed=0, settings={"clip": 0.2})
    write_trial(suite, seed=1, settings={"clip": 0.2}, final=None, status="failed", error="boom", traceback="at home")
    write_resolved(suite, clip=0.2)
    publish.publish(suite, tmp_path / "published")
    for folder, has_traceback in ((suite, True), (tmp_path / "published", False)):
        assert main([str(folder)]) == 0
        html = (folder / "report.html").read_text()
        assert f'<details id="trial-1" data-task="{TASK}" data-algorithm="mappo" data-seed="0">' in html
        assert '<details id="trial-2"' in html
        assert "all at their defaults" in html
        assert ("at home" in html) == has_traceback


def test_a_folder_of_tables_alone_has_entries(suite: Path) -> None:
    write_trial(suite)
    assert main([str(suite)]) == 0
    for path in suite.rglob("trial.json"):
        path.unlink()
    assert main([str(suite)]) == 0
    assert '<details id="trial-1"' in (suite / "report.html").read_text()


def test_labels_and_errors_are_escaped(suite: Path) -> None:
    write_trial(suite, LONG, final=None, status="failed", error=LONG, traceback=LONG, settings={"clip": LONG})
    assert main([str(suite)]) == 0
    html = (suite / "report.html").read_text()
    assert "<script>alert" not in html
    assert html.count('data-algorithm="&lt;script&gt;alert(&#39;&amp;&#34;&#39;)') >= 3


def test_three_hundred_failed_trials_stay_below_two_megabytes() -> None:
    count = 300
    steps = np.arange(1, 101)
    generator = np.random.default_rng(0)
    labels = [f"{LONG}{i}" for i in range(6)]
    about = {"task": TASK, "steps": 1000, "status": "failed", "traceback": TRACEBACK, "provenance": {}}
    about |= {"settings": {f"setting_{i}": 0.1 for i in range(25)}}
    trials = [about | {"algorithm": labels[i % 6], "seed": i // 6} for i in range(count)]
    keys = [(t["algorithm"], t["seed"], step) for t in trials for step in steps]
    updates = pd.DataFrame(keys, columns=["algorithm", "seed", "step"]).assign(task=TASK, agent="0")
    updates[["kl_mean", "entropy", "critic_loss", "gradient_norm"]] = generator.normal(size=(len(updates), 4))
    records = updates[["task", "algorithm", "seed", "step"]].assign(kind="grid", episode_return=updates["entropy"])
    state = {"state": "failed", "reached": 1000, "steps": 1000, "seconds": 1.0, "error": 400 * "x"}
    states = pd.DataFrame([{key: t[key] for key in ("task", "algorithm", "seed")} | state for t in trials])
    results = SuiteResults(Path("demo"), records, trials, None, updates)
    html = page.ENVIRONMENT.get_template("trials.html").render(
        entries=drilldown.entries(results, states), settings_tables=drilldown.settings_tables(results), videos=[]
    )
    assert len(html.encode()) < 2_000_000
    assert html.count("<path ") == 5 * count
