"""Scalars as YAML 1.2 has them, and keys that stand once."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from bench.suite.yaml12 import dump, parse


@pytest.mark.parametrize(
    "text",
    [
        "123456789e12",
        "1234567e8901",
        "081234567890",
        "1e5",
        "0x10",
        "yes",
        "no",
        "null",
        "~",
        ".5",
        "2026-01-01",
        "1_000",
    ],
)
def test_what_is_dumped_is_read_as_it_was_here_and_elsewhere(text: str) -> None:
    value = {text: [text, 1, 0.5, 1e-5, None, True, {"hash": text}]}
    assert parse(dump(value)) == yaml.safe_load(dump(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1e6", 1e6),
        ("1E+3", 1000.0),
        ("+2.5", 2.5),
        (".5", 0.5),
        ("-3.", -3.0),
        ("0.1", 0.1),
    ],
)
def test_a_number_with_point_or_exponent_is_a_float(text: str, value: float) -> None:
    read = parse(text)
    assert isinstance(read, float)
    assert read == value


@pytest.mark.parametrize(("text", "value"), [("10", 10), ("-7", -7), ("+7", 7), ("010", 10), ("0", 0)])
def test_digits_are_a_decimal_integer(text: str, value: int) -> None:
    read = parse(text)
    assert type(read) is int
    assert read == value


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "off", "y", "N", "Yes", "1_000", "2026-01-01", "12:30:45", "e5", "tRue", "."]
)
def test_what_only_yaml_1_1_understands_is_a_word(text: str) -> None:
    assert parse(f"key: {text}") == {"key": text}


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_forms_of_null(text: str) -> None:
    assert parse(f"key: {text}") == {"key": None}


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("FALSE", False), ("false", False)])
def test_forms_of_bool(text: str, value: bool) -> None:
    assert parse(text) is value


@pytest.mark.parametrize("text", ["'5'", '"5"', "'true'", "'null'", "''"])
def test_a_quoted_scalar_is_a_word(text: str) -> None:
    assert parse(text) == text[1:-1]


def test_collections_keep_their_order() -> None:
    read = parse("b: [1, 2.0, x]\na: {z: 1, y: ~}\n")
    assert read == {"b": [1, 2.0, "x"], "a": {"z": 1, "y": None}}
    assert list(read) == ["b", "a"]
    assert list(read["a"]) == ["z", "y"]


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, b: 1}", "- {x: 1, 'x': 2}"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="twice"):
        parse(text)


@pytest.mark.parametrize("text", ["{[a]: b}", "? {a: 1}\n: b"])
def test_a_key_that_is_a_collection_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse(text)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx", "!!python/object/apply:os.getcwd []", "a: \x00"])
def test_what_is_not_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse(text)


def test_pyyamls_own_loader_is_left_as_it_was() -> None:
    read: Any = yaml.safe_load("yes")
    assert read is True


@pytest.mark.parametrize(
    "text",
    [
        "name: !!int foo",
        "name: !!bool foo",
        "name: !!float nan",
        "name: !!timestamp 2026-01-01",
        "{a: &a {x: 1}, b: {!!merge <<: *a}}",
        "!!omap [a: 1]",
        '"\\UFFFFFFFF"',
        "%YAML 1." + "9" * 5000,
        "[" * 3000,
        "n: " + "9" * 5000,
    ],
)
def test_what_cannot_be_read_is_a_yaml_error_and_no_other(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse(text)


def test_an_error_has_its_place_and_no_more_lines() -> None:
    with pytest.raises(yaml.YAMLError) as refused:
        parse("a: 1\nb: [1\n")
    assert str(refused.value) == "line 3, column 1: expected ',' or ']', but got '<stream end>'"


def test_an_alias_is_a_copy() -> None:
    read = parse("a: &x {y: [1]}\nb: *x\n")
    assert read == {"a": {"y": [1]}, "b": {"y": [1]}}
    assert read["a"] is not read["b"]
    assert read["a"]["y"] is not read["b"]["y"]


def test_twenty_lists_within_each_other_are_the_most() -> None:
    assert parse("[" * 20 + "1" + "]" * 20)
    with pytest.raises(yaml.YAMLError, match="more than 20"):
        parse("[" * 21 + "1" + "]" * 21)


def test_a_merge_key_is_a_word() -> None:
    assert parse("{a: &a {x: 1}, b: {<<: *a}}")["b"] == {"<<": {"x": 1}}
