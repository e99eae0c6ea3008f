"""The options `--set`, `--include` and `--only`, which change a suite from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bench.store.checksums import Damaged, check_line
from bench.suite.model import Included, SuiteError
from bench.suite.reading import read, validated
from bench.suite.trial import Trial
from bench.suite.yaml12 import CONTROL, DEEPEST, parse


def only(chosen: list[Trial], selections: Iterable[str]) -> list[Trial]:
    """The trials that match every selection (`algorithm=happo,mappo`, `task=...`, `seed=0,1`).

    A task may be named by the end of its name, if no other task of the suite has that end: `task=Hopper-3x1`.
    """
    for selection in selections:
        key, equals, values = selection.partition("=")
        of_trial = {
            "task": lambda t: (t.task.label, t.task.name),
            "algorithm": lambda t: (t.label,),
            "seed": lambda t: (str(t.seed),),
        }.get(key)
        if of_trial is None or not equals:
            raise SuiteError(f"--only {selection}: write task=..., algorithm=... or seed=..., values joined by commas")
        present = {name for t in chosen for name in of_trial(t)}
        wanted = [value.strip() for value in values.split(",")]
        if key == "task":
            whole = _by_end(values.strip(), present)  # the label of a task may have a list among its options
            wanted = [whole] if whole in present else [_by_end(value, present) for value in wanted]
        for value in wanted:
            if value not in present:
                valid = ", ".join(sorted(present, key=lambda v: (len(v), v)))
                raise SuiteError(f"--only {selection}: no {key} {value!r} left to choose from; valid: {valid}")
        labels = {of_trial(t)[0] for t in chosen}  # one that is a label is no name of others
        chosen = [t for t in chosen if {of_trial(t)[0], *({*of_trial(t)} - labels)} & {*wanted}]
    return chosen


def _by_end(value: str, names: set[str]) -> str:
    """The only one of these names that ends with `value`; else `value` itself."""
    ends = [name for name in names if value and name.endswith(value)]
    return ends[0] if value not in names and len(ends) == 1 else value


def include(document: dict[str, Any], source: Path, path: Path) -> list[str]:
    """Merge the settings in a study's `best.yaml` into the document of a suite, and how they were tuned.

    Returns the labels that got settings.
    """
    tuned_there = read(source, Included)
    try:
        check_line(source)
    except Damaged as error:
        raise SuiteError(str(error)) from None
    found = validated(Included, tuned_there, source)
    labels = [label for label in found.algorithms if label in document["algorithms"]]
    if not labels:
        ours, theirs = ", ".join(document["algorithms"]), ", ".join(found.algorithms)
        raise SuiteError(f"{source}: algorithms: none of {theirs} is an algorithm of {path}; valid: {ours}")
    for label in labels:
        own, tuned = document["algorithms"][label] or {}, found.algorithms[label]
        method, other = own.get("algorithm", label), tuned.get("algorithm", label)
        if method != other:
            raise SuiteError(f"{source}: algorithms.{label}: settings of {other}; {label} is {method} in {path}")
        if label not in found.tuning:
            raise SuiteError(f"{source}: tuning.{label}: missing; a tuned algorithm says where it was tuned")
        document["algorithms"][label] = own | tuned
        document["tuning"] = document.get("tuning", {}) | {label: found.tuning[label].model_dump(exclude_defaults=True)}
    return labels


def override(document: dict[str, Any], change: str) -> None:
    """Apply one `path=value` to the document. The value is YAML; missing mappings along the path are created."""
    dotted, equals, text = change.partition("=")
    if bad := CONTROL.search(dotted):
        raise SuiteError(f"--set {change}: the control character {bad[0]!r} is part of no key")
    if not equals or "" in dotted.split("."):
        raise SuiteError(f"--set {change}: write path=value, for example algorithms.happo.clip=0.1")
    try:
        value = parse(text)
    except yaml.YAMLError as error:
        raise SuiteError(f"--set {change}: the value is not YAML ({error})") from None
    *way, last = dotted.split(".")
    if len(way) > DEEPEST:
        raise SuiteError(f"--set {change}: a path of more than {DEEPEST} points leads nowhere")
    node: Any = document
    for key in way:
        if isinstance(node, list) and (index := _index(node, key)) is not None:
            if isinstance(node[index], str):  # a task's name alone
                node[index] = {"name": node[index]}
            node = node[index]
        elif isinstance(node, dict):
            node[key] = {} if node.get(key) is None else node[key]
            node = node[key]
        else:
            raise SuiteError(f"--set {change}: {key!r} leads nowhere in this suite")
    if isinstance(node, list) and (index := _index(node, last)) is not None:
        node[index] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise SuiteError(f"--set {change}: {last!r} leads nowhere in this suite")


def _index(items: list[Any], key: str) -> int | None:
    """The list index that a part of a `--set` path stands for; None if it is none."""
    names = [str(index) for index in range(len(items))]
    return names.index(key) if key in names else None
