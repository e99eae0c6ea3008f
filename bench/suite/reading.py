"""Suite files: YAML -> checked models. An error is one line with the file, the key and the valid values."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from algorithms.validation import near
from bench.cli.command import counted
from bench.suite.model import Included, Suite, SuiteError
from bench.suite.shipped import what_there_is
from bench.suite.yaml12 import parse

M = TypeVar("M", bound=BaseModel)


TYPE_NAMES = {
    "dict_type": "a mapping of names to settings",
    "model_type": "a mapping of keys to values",
    "list_type": "a list",
    "string_type": "a word",
    "int_type": "a whole number",
    "bool_type": "true or false",
}
"""pydantic's error types -> the expected value, for messages."""


UNKNOWN = ("extra_forbidden", "invalid_key")
"""pydantic's error types for an unknown key, and for a key that is not a string."""


STUDY_KEYS = ("trials", "space", "objectives", "pruner", "sampler", "sampler_seed")
"""The keys of a study file that a suite file does not have."""


LARGEST = 1_000_000
"""Bytes of a file. The longest suite that comes with the benchmark has 5,000."""


KEY = "[key]"
"""The last part of pydantic's path to an invalid key, after the key itself."""


def validated(model: type[M], document: dict[str, Any], path: Path, where: str = "") -> M:
    """`document`, which is the part `where` of the file `path`, as a `model`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SuiteError(f"{path}: {where}{_explain(error, model)}") from None


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The model of the values of a key, which may be that of the values of a mapping."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return next((found for each in get_args(annotation) if (found := _nested(each))), None)


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first error of pydantic as `key: what is wrong; what would be valid`."""
    first = min(error.errors(), key=lambda e: not _is_about_a_key(e["type"], e["loc"]))  # it explains what is missing
    parts, value = _parts(first["loc"]), first["input"]
    where, what = ".".join(parts), repr(value)
    if parts[-1] == KEY:
        where, what = ".".join(parts[:-2]), f"the key {value!r}"
    if (top := where.partition(".")[0]) != where and top in model.model_fields:
        model = _nested(model.model_fields[top].annotation) or model
    if first["type"] in UNKNOWN:
        if model is Suite and where in STUDY_KEYS:
            return f"{where}: a key of studies, which `python -m bench.tune` runs, not of suites"
        fields = list(model.model_fields)
        return f"{where}: unknown key{near(first['loc'][-1], fields)}; valid: {', '.join(fields)}"
    if first["type"] == "missing":
        return f"{where}: missing; needed: {', '.join(k for k, f in model.model_fields.items() if f.is_required())}"
    if first["type"] == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{where}: {value!r} is not a whole number; write {int(value)}"
    if first["type"] == "too_short":
        least, noun = first["ctx"]["min_length"], parts[-1].removesuffix("s")
        return f"{where}: needs at least {f'one {noun}' if least == 1 else counted(least, noun)}"
    if first["type"] == "too_long":
        return f"{where}: {len(value)} entries are more than {first['ctx']['max_length']}"
    if first["type"] == "string_pattern_mismatch":
        return f"{where}: {what} must be 1 to 100 letters, digits and . _ + -, the first a letter or digit"
    if first["type"] in TYPE_NAMES:
        kinds = [e["type"] for e in error.errors() if _parts(e["loc"]) == parts]  # one for each that it may be
        return f"{where}: {what} is not {' or '.join(TYPE_NAMES[kind] for kind in kinds if kind in TYPE_NAMES)}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{where}: {message}, not {value!r}"


def _parts(loc: tuple[int | str, ...]) -> list[str]:
    """pydantic's path, without the type that it took an entry of `tasks` for."""
    return [str(part) for i, part in enumerate(loc) if not (loc[0] == "tasks" and i == 2)]


def _is_about_a_key(kind: str, loc: tuple[int | str, ...]) -> bool:
    return kind in UNKNOWN or loc[-1] == KEY


def unshared(value: Any) -> Any:
    """A deep copy in which no object occurs twice, so that YAML writes no anchors and aliases."""
    if isinstance(value, dict):
        return {key: unshared(part) for key, part in value.items()}
    return [unshared(part) for part in value] if isinstance(value, list) else value


def read(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """The mapping in a YAML file; `model` is what it will be validated as, for messages."""
    try:
        document = parse(_text(path, model))
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: not valid YAML: {error}") from None
    required = ", ".join(key for key, field in model.model_fields.items() if field.is_required())
    needs = f"{'a suite' if model is Suite else 'it'} needs {required}"
    if document is None:
        raise SuiteError(f"{path}: the file is empty; {needs}")
    if not isinstance(document, dict):
        raise SuiteError(f"{path}: not a mapping of keys to values; {needs}")
    return document


def _text(path: Path, model: type[BaseModel]) -> str:
    """What is in a file, if that is UTF-8, with or without a mark of the byte order, and not too long."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SuiteError(f"{path}: is no regular file but a device or a pipe")
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror}){_hint(model, path)}") from None
    if len(content) > LARGEST:
        raise SuiteError(f"{path}: more than {LARGEST:,} bytes: that is no {model.__name__.lower()}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not a text file (byte {error.start + 1} is not UTF-8)") from None


def _without_waiting(path: str, flags: int) -> int:
    """Opens a named pipe at once: to wait for somebody who writes into it would be to wait for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _hint(model: type[BaseModel], path: Path) -> str:
    """A hint for messages: where files of that kind are found."""
    if model is Included:
        return "; a study leaves results/<study>/best.yaml"
    return what_there_is(path)
