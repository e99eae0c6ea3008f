"""The documentation: its commands parse, its links lead somewhere, its code is that of the files and runs."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import helpers
import pytest
import yaml

from bench.report import published
from bench.store.files import read_table
from bench.store.trials import RECORD_COLUMNS
from bench.suite.reading import STUDY_KEYS
from bench.suite.resolving import load, trials
from bench.suite.yaml12 import parse
from bench.tune import study

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md", "results/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
INDENTED = re.compile(r"(?:^(?: {4}.*\n)+)", re.MULTILINE)
FENCED = re.compile(r"^```(\S*)(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
COMMAND = re.compile(r"python -m (bench[.\w]*)([^`#|\n]*)")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=name)


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """(title, code) of every fenced block in a language; the title is empty where there is none."""
    for found, about, code in FENCED.findall(page.read_text()):
        if found == language:
            yield "".join(re.findall(r'title="(.*?)"', about)), code


def everywhere(language: str) -> list[Any]:
    return [
        pytest.param(page, title, code, id=f"{name(page)} {title or k}")
        for page in PAGES
        for k, (title, code) in enumerate(blocks(page, language))
    ]


def test_the_readme_fits_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


# Commands


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, arguments) of every command: in blocks all, in running text those with arguments."""
    text = page.read_text()
    shown = "\n".join([*INDENTED.findall(text), *(code for _, _, code in FENCED.findall(text))])
    for module, arguments in COMMAND.findall(shown):
        yield module, shlex.split(arguments)
    for module, arguments in COMMAND.findall(FENCED.sub("", INDENTED.sub("", text))):
        assert find_spec(module), module
        if arguments.strip():
            yield module, shlex.split(arguments)


class Parsed(Exception):
    """Raised in place of what a command would do."""

    def __init__(self, options: argparse.Namespace):
        super().__init__()
        self.options = options


@pytest.fixture
def only_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands stop when their arguments are read."""
    read = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> None:
        options = read(self, arguments)
        options.known = {*self._option_string_actions}
        raise Parsed(options)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def parsed(module: str, arguments: list[str]) -> argparse.Namespace:
    found = import_module(module)
    main = found.main if hasattr(found, "main") else import_module(f"{module}.__main__").main
    with pytest.raises(Parsed) as caught:
        main(arguments)
    return caught.value.options


@pytest.mark.usefixtures("only_parsers")
@each_page
def test_every_command_is_there_and_takes_its_arguments(page: Path) -> None:
    for module, arguments in commands(page):
        if "--show-defaults" in arguments:  # answers at once
            with pytest.raises(SystemExit, match="0"):
                import_module(module).main(arguments)
            continue
        options = parsed(module, arguments)
        for argument in arguments:
            assert not argument.startswith("suites/") or (ROOT / argument).is_file(), argument
        if module == "bench.run" and options.suite.is_file():  # from the root: one that comes with the benchmark
            load(ROOT / options.suite, options.set)


def test_the_pages_show_most_commands() -> None:
    """Otherwise the test above would look past them."""
    shown = {module for page in PAGES for module, _ in commands(page)}
    assert shown >= {f"bench.{x}" for x in ("run", "report", "tune", "tasks", "check", "golden", "reference", "speed")}


@pytest.mark.usefixtures("only_parsers")
def test_every_option_in_a_table_is_one_of_a_command() -> None:
    needed = {"bench.run": ["x"], "bench.tune": ["x"], "bench.speed": [], "bench.report": [], "bench.play": ["x"]}
    needed |= {"bench.plan": ["x", "--workers", "1"], "bench.reference": []}
    known = {option for module, arguments in needed.items() for option in parsed(module, arguments).known}
    rows = [line for page in PAGES for line in page.read_text().splitlines() if line.startswith("| `--")]
    named = {option for row in rows for option in re.findall(r"`(--[a-z-]+)", row)}
    assert len(named) > 10
    assert named <= known


# The answer


def test_the_readme_says_what_the_published_comparison_found() -> None:
    text, folder = (ROOT / "README.md").read_text(), ROOT / "results/mamujoco"
    claims = json.loads((folder / "claims.json").read_text())["claims"].values()
    assert re.findall(r"^\| (.+\.) \| (\w+) \|$", text, re.MULTILINE) == [(x["says"], x["verdict"]) for x in claims]
    panels = published.panels(read_table(folder / "returns.parquet"))
    for paper in ("Kuba et al.", "Zhong et al."):
        own = [panel["exceeded"] for panel in panels if panel["source"].startswith(paper)]
        assert re.search(rf"in {own.count('yes')} of {len(own)} of\s+\[{paper}", text)
    assert f"level with it in {sum(panel['exceeded'] == 'level' for panel in panels)} (" in text


def test_every_page_counts_the_trials_of_the_published_comparison() -> None:
    """But where a page says what was so before."""
    there = len(read_table(ROOT / "results/mamujoco/trials.parquet"))
    counted = [int(n) for page in PAGES for n in re.findall(r"(?<!when )\b(\d+) of 290 trials", page.read_text())]
    assert {*counted} == {there}


# Links


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_page
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


@cache
def functions_of(path: Path) -> set[str]:
    """The tests in a file."""
    return {*re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}


def test_every_test_that_is_named_stands_in_the_file_that_is_linked() -> None:
    linked = [
        (test, (page.parent / path).resolve())
        for page in PAGES
        for test, path in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", page.read_text())
    ]
    assert len(linked) > 40
    assert [test for test, path in linked if test not in functions_of(path)] == []


# Code


@pytest.mark.parametrize(("page", "title", "code"), [*everywhere("python"), *everywhere("yaml")])
def test_a_block_that_names_a_file_is_that_file(page: Path, title: str, code: str) -> None:
    assert not title or (ROOT / title).read_text() == code


def test_every_example_is_shown() -> None:
    shown = {title for page in PAGES for language in ("python", "yaml") for title, _ in blocks(page, language)}
    assert {f"examples/{x}" for x in ("meeting.py", "early.py", "own.yaml", "train_from_python.py")} <= shown


@pytest.mark.parametrize(("page", "title", "code"), everywhere("yaml"))
def test_every_suite_and_study_is_valid(
    page: Path, title: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that shows a part of a suite is completed."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    rest = {"name": "part", "steps": 4000, "seeds": 1, "evaluate": {"every": 4000, "episodes": 1}}
    shown: dict[str, Any] = parse(code)
    path = tmp_path / "shown.yaml"
    path.write_text(yaml.safe_dump(rest | {"algorithms": {"happo": None}} | shown))
    if shown.keys() & {*STUDY_KEYS}:
        assert study.load(path, [])[0].defaults
    else:
        assert trials(load(path)[0], path)


@pytest.mark.parametrize(("page", "title", "code"), everywhere("python"))
def test_code_runs(page: Path, title: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for files, which have tests of their own, and what reads the results of the quick suite."""
    monkeypatch.chdir(tmp_path)
    compiled = compile(textwrap.dedent(code), name(page), "exec")
    if not title and "results/quick" not in code:
        exec(compiled, {})


# Columns


def documented(heading: str) -> set[str]:
    """The columns in the table under a heading of docs/results.md."""
    section = re.split(r"^## ", (ROOT / "docs/results.md").read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{heading}\n")]
    rows = re.findall(r"^\| (`.*?) \|", text.partition("| column | meaning |")[2], re.MULTILINE)
    return {column for row in rows for column in re.findall(r"`(\w+)`", row)}


def test_every_column_of_records_is_documented() -> None:
    assert documented("records") == {*RECORD_COLUMNS}


def test_every_column_of_updates_is_documented() -> None:
    of_trials = {"suite", "task", "algorithm", "seed", "step", "steps_per_second"}
    columns = set()
    for method in helpers.EVERY:
        members = helpers.team()
        learner = helpers.build(method, members)
        columns |= {key for row in learner.update(helpers.rollout(members)) for key in row}
    where_measured = {"improvement", "improvement_error", "expected_return"}
    assert documented("updates") == of_trials | columns | where_measured


def test_the_figures_of_the_theory_show_what_the_text_says_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    figures = import_module("theory_figures")
    left, right = figures.draw().axes
    at_once, penalised, one_by_one = (line.get_xydata() for line in left.lines)
    assert abs(at_once[:, 0] - at_once[:, 1]).max() < 0.02  # on the diagonal, where they meet
    assert abs(penalised[1] - [1, 0]).max() < 1e-6  # the whole way in one step
    assert abs(one_by_one[-1] - [0, 1]).max() < 0.02
    J = {line.get_label(): line.get_ydata() for line in right.lines}
    assert all((y[1:] >= y[:-1]).all() for label, y in J.items() if label.startswith("one after"))
    assert len(J) == 3
