"""The settings of a method as `--show-defaults` prints them."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml

from algorithms import KNOWN, SettingError, settings
from bench import run
from bench.suite.defaults import shown


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_shown_can_be_pasted_into_a_suite_and_changes_nothing(name: str) -> None:
    pasted = yaml.safe_load(shown(name))
    assert settings(name, pasted[name]) == settings(name, {})


@pytest.mark.parametrize("name", KNOWN)
def test_every_setting_has_its_sentence_above_it(name: str) -> None:
    lines = shown(name).splitlines()
    for field in fields(KNOWN[name].settings):
        (place,) = (k for k, line in enumerate(lines) if line.startswith(f"  {field.name}:"))
        assert lines[place - 1].startswith("  # ")
    assert all(len(line) <= 100 for line in lines)


def test_a_table_below_a_setting_is_left_out() -> None:
    assert "| samples" not in shown("hatrpo")


def test_an_unknown_method_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(SettingError, match="unknown algorithm 'hapo'"):
        shown("hapo")


def test_the_command_prints_them_and_needs_no_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run.main(["--show-defaults", "happo"])
    assert left.value.code == 0
    assert capsys.readouterr().out == shown("happo") + "\n"


def test_the_command_refuses_an_unknown_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run.main(["--show-defaults", "hapo"])
    assert left.value.code == 2
    assert "--show-defaults: unknown algorithm 'hapo'; valid: ippo, mappo" in capsys.readouterr().err
