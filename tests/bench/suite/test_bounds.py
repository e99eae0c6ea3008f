"""What a command is given is bounded: one line within a moment, where it would wait, fill the memory or never end."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_suite import SMALL, refusal, says, write

from bench import check
from bench.suite.model import MOST_ALGORITHMS, MOST_EVALUATIONS, MOST_TASKS, MOST_TRIALS, Suite, SuiteError
from bench.suite.overrides import override
from bench.suite.reading import LARGEST, read
from bench.suite.yaml12 import DEEPEST, MOST_VALUES

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
"""Nine to the ninth words in a few hundred bytes."""


def text_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "suite.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Files


def test_a_named_pipe_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    says(refusal(tmp_path, capsys, tmp_path / "pipe"), str(tmp_path / "pipe"), "no regular file")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    says(refusal(tmp_path, capsys, Path(device)), f"{device}: is no regular file")


def test_a_file_of_more_than_a_megabyte_is_no_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says(refusal(tmp_path, capsys, text_file(tmp_path, "#" * (LARGEST + 1))), "more than 1,000,000 bytes", "no suite")


def test_what_is_included_is_bounded_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    message = refusal(tmp_path, capsys, write(tmp_path), "--include", str(tmp_path / "pipe"))
    says(message, str(tmp_path / "pipe"), "no regular file")


@pytest.mark.parametrize("name", ["x" * 5000, "a\x1b[31mb", "a\nb", "\udcff"])
def test_the_name_of_a_file_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    line = refusal(tmp_path, capsys, Path(name))
    assert line[:-1].isprintable()


@pytest.mark.parametrize(("content", "byte"), [(b"name: \xff\xfe", 7), ("name: é".encode("latin-1"), 7)])
def test_what_is_not_utf_8_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, byte: int
) -> None:
    says(refusal(tmp_path, capsys, text_file(tmp_path, content)), f"byte {byte} is not UTF-8")


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = text_file(tmp_path, b"\xef\xbb\xbf" + yaml.safe_dump(SMALL).encode())
    assert read(path, Suite) == SMALL


# YAML


def test_aliases_that_name_each_other_do_not_fill_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says(refusal(tmp_path, capsys, text_file(tmp_path, BOMB)), "more than 50000 values, those of its aliases included")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_brackets_without_end_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    says(refusal(tmp_path, capsys, text_file(tmp_path, text)), "line 1, column", "more than 20 lists and mappings")


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("9" * 4000, ["line 1, column 8", "more than 1000 digits"]),
        ("9" * 999, ["steps:", "less than or equal to 10000000000"]),
        ("1e400", ["line 1, column 8", "1e400", "beyond 1.8e308"]),
        ("!!timestamp 2026-99-99", ["line 1, column 8", "'timestamp' has no meaning here"]),
        ("2026-99-99", ["steps:", "'2026-99-99'", "whole number"]),
        ('"\\e[31mred"', ["line 1, column 8", "the control character '\\x1b'"]),
        ('"\\0"', ["line 1, column 8", "the control character '\\x00'"]),
        ('"\\ud800"', ["line 1, column 8", "the control character '\\ud800'"]),
        ('"\\u202e1"', ["steps:", "'\\u202e1'"]),
        ("x" * 900_000, ["steps:", "'xxx", "whole number"]),
        ("x " * 400_000, ["steps:", "'x x", "whole number"]),
    ],
)
def test_an_odd_value_is_cut_and_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, parts: list[str]
) -> None:
    says(refusal(tmp_path, capsys, text_file(tmp_path, f"steps: {value}\n" + yaml.safe_dump(without("steps")))), *parts)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in SMALL.items() if name != key}


# Counts and settings


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("steps=10000000001", ["steps:", "10000000000"]),
        ("seeds=10001", ["seeds:", "10000"]),
        ("evaluate.episodes=10001", ["evaluate.episodes:", "10000"]),
        ("evaluate.every=1e20", ["evaluate.every:", "1e+20"]),
        ("first_seed=99999999999", ["first_seed:", "4294967296"]),
        (f"tasks=[{', '.join(['mamujoco/Hopper-3x1'] * 501)}]", ["tasks:", "501 entries are more than 500"]),
        ("seeds=10000", ["2 tasks x 3 algorithms x 10,000 seeds are 60,000 trials, more than 20,000"]),
        ("steps=10000000000", ["evaluate.every:", "50,000,000 evaluations", "more than 10,000"]),
        ("algorithms.maddpg.update_to_data=42000", ["algorithms.maddpg.update_to_data:", "42000", "to 100"]),
        ("algorithms.maddpg.n_step=10001", ["algorithms.maddpg.n_step:", "10001", "from 1 to 10000"]),
        ("algorithms.maddpg.batch_size=1000000", ["algorithms.maddpg.batch_size:", "from 1 to 100000"]),
        ("algorithms.happo.critic_epochs=1e20", ["algorithms.happo.critic_epochs:", "1e+20", "whole number"]),
        ("algorithms.happo.critic_epochs=100000000000000000000", ["critic_epochs:", "out of range", "from 1 to 1000"]),
        ("algorithms.happo.hidden_sizes=[1000000000]", ["hidden_sizes:", "1000000000", "from 1 to 4096"]),
        (f"algorithms.happo.hidden_sizes={[8] * 17}", ["hidden_sizes:", "17 numbers", "from 1 to 16"]),
        ("algorithms.happo.envs=10001", ["algorithms.happo.envs:", "from 1 to 10000"]),
        ("algorithms.happo.rollout_length=100001", ["algorithms.happo.rollout_length:", "from 1 to 100000"]),
        ("tasks=[{name: pettingzoo/multiwalker_v9, n_walkers: 300}]", ["tasks.0.n_walkers: 300", "from 2 to 30"]),
        ("tasks=[{name: pettingzoo/simple_spread_v3, N: 300}]", ["tasks.0.N: 300", "from 1 to 30"]),
    ],
)
def test_what_never_ends_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, parts: list[str]
) -> None:
    says(refusal(tmp_path, capsys, write(tmp_path), "--set", change), *parts)


def test_a_task_whose_options_are_too_long_for_a_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_room.py").write_text("def room(plan=''): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write(tmp_path, tasks=[{"name": "python:own_room:room", "plan": "x" * 300}])
    says(refusal(tmp_path, capsys, path), "tasks.0.name", "more than a folder's name may")


def test_the_documentation_has_these_bounds() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "suites.md").read_text()
    table = text.partition("| what | at most |")[2].partition("\nEvery setting")[0]
    stated = {int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]+(?= |$)", table, re.MULTILINE)}
    counts = {MOST_TASKS, MOST_ALGORITHMS, MOST_TRIALS, MOST_EVALUATIONS, 10_000, 10**10}
    assert counts | {LARGEST, MOST_VALUES, DEEPEST} == stated


# Arguments


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--set=steps=" + "[" * 100_000, ["--set steps=[[[", "more than 20 lists"]),
        ("--set=defaults." + "x." * 30_000 + "x=1", ["--set defaults.x.x", "more than 20 points"]),
        ("--set=steps=\x1b[31m", ["--set steps=\\x1b[31m", "the control character"]),
        ("--set=steps=" + "x" * 100_000, ["steps:", "xxx...xxx", "whole number"]),
        ("--set=\udcff=1", ["--set \\udcff=1", "'\\udcff' is part of no key"]),
        ("--only=task=" + "x" * 100_000, ["--only task=xxx", "valid: "]),
        ("--only=" + "x," * 50_000, ["--only x,x", "write task=..."]),
        ("--only=algorithm=\x1b[31m", ["--only algorithm=\\x1b[31m", "happo, maddpg"]),
    ],
)
def test_an_odd_argument_is_cut_and_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, parts: list[str]
) -> None:
    line = refusal(tmp_path, capsys, write(tmp_path), argument)
    says(line, *parts)
    assert line[:-1].isprintable()


def test_two_names_of_one_anchor_are_changed_one_by_one() -> None:
    document: dict[str, Any] = {}
    override(document, "algorithms={happo: &own {clip: 0.1}, mappo: *own}")
    override(document, "algorithms.happo.clip=0.3")
    assert document == {"algorithms": {"happo": {"clip": 0.3}, "mappo": {"clip": 0.1}}}


@pytest.mark.parametrize(
    "arguments",
    [
        "mamujoco/Hopper-3x1 --set 'obsk=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['",
        "mamujoco/Hopper-3x1 --set obsk=" + "9" * 900,
        "mamujoco/" + "x" * 5000,
        "'python:\x1b[31m:y'",
        "mamujoco/Hopper-3x1 --nonsense",
    ],
)
def test_bench_check_says_what_is_wrong_in_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        check.main(shlex.split(arguments))
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith("python -m bench.check: ")
    assert err[:-1].isprintable()
    assert len(err) <= 301


def test_the_message_of_an_error_is_one_line_wherever_it_is_raised() -> None:
    assert str(SuiteError("a:\n  b\x1b[31m " + "c" * 1000)) == f"a: b\\x1b[31m {'c' * 64}...{'c' * 33}"
