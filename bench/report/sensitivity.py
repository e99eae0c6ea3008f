"""What tuning for each task would add, as text: for the page of a study, and for suites with settings that it found."""

from __future__ import annotations

from typing import Any

from bench.report import study_results
from bench.report.load import ReportError, SuiteResults
from bench.report.study_results import StudyResults
from bench.store.studies import is_study


def rows(study: StudyResults) -> list[dict[str, str]]:
    """`study_results.sensitivity` as text."""
    return [
        {
            "algorithm": row["algorithm"],
            "complete trials": str(row["trials"]),
            "tasks": str(row["tasks"]),
            "one setting for all tasks": f"{row['one']:z.3f}",
            "one for each task": f"{row['each']:z.3f}",
            "gain": f"{row['add']:z.3f}",
        }
        for row in study_results.sensitivity(study).to_dict("records")
    ]


def of_suite(suite: SuiteResults) -> list[dict[str, Any]]:
    """Name and rows of each study that found settings of a suite, where its folder lies beside that of the suite."""
    names = sorted({trial["tuning"]["study"] for trial in suite.trials if trial.get("tuning")})
    found = []
    for name in names:
        folder = suite.folder.resolve().parent / name
        if is_study(folder):
            try:
                found.append({"study": name, "rows": rows(study_results.load(folder))})
            except ReportError:  # its own report says what is wrong with it
                continue
    return found
