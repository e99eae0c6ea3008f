"""The page that lists several reports, with the verdicts of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cli.command import counted
from bench.report import claims, page
from bench.report.load import SuiteResults
from bench.report.study_results import StudyResults


def html(reports: Sequence[SuiteResults | StudyResults]) -> str:
    """Links to `<name>/report.html` beside this page."""
    return page.ENVIRONMENT.get_template("index.html").render(
        name="Reports", refresh=0, entries=[_entry(one) for one in reports]
    )


def _entry(one: SuiteResults | StudyResults) -> dict[str, Any]:
    if isinstance(one, StudyResults):
        tuned = f"study, {counted(len(one.trials), 'tuning trial')}"
        return {"name": one.name, "folder": one.folder.resolve().name, "what": tuned, "claims": []}
    done = sum(trial["status"] == "done" for trial in one.trials)
    tasks, trials = counted(one.records["task"].nunique(), "task"), counted(len(one.trials), "trial")
    what = f"suite, {tasks}, {done} of {trials} done" if one.trials else f"suite, {tasks}"
    stated = [{"says": x.claim.says, "verdict": x.verdict} for x in claims.verdicts(one)]
    return {"name": one.name, "folder": one.folder.resolve().name, "what": what, "claims": stated}
