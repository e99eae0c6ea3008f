"""`resolved.json`: tasks, algorithms and skipped pairings of a suite or study. Commands write it, reports read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.store import files

NAME = "resolved.json"


@dataclass(frozen=True)
class Algorithm:
    """What a label stands for."""

    method: str
    """The name of its method."""
    summary: str
    """The method in one line."""
    ablation: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The default of every setting that has one; empty in files of versions that did not store them."""


@dataclass(frozen=True)
class Resolved:
    """What the names in a suite or study file were resolved to."""

    methods: Sequence[str]
    """The built-in methods, in the order of the registry."""
    tasks: Sequence[str]
    """Labels of tasks, in the order of the file."""
    algorithms: Mapping[str, Algorithm]
    """label -> what it stands for; in the order of the registry, those of one method in that of the file."""
    skipped: Sequence[tuple[str, str]]
    """The pairings (task, label) that the file leaves out."""

    def write(self, folder: Path) -> None:
        """Write it into a folder of results."""
        files.write_sealed_json(folder / NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Resolved | None:
        """That of a folder of results; None if there is none."""
        path = folder / NAME
        if not path.is_file():
            return None
        found = files.read_sealed_json(path)
        try:
            return cls(
                methods=[str(name) for name in found["methods"]],
                tasks=[str(task) for task in found["tasks"]],
                algorithms={label: Algorithm(**about) for label, about in found["algorithms"].items()},
                skipped=[(str(task), str(label)) for task, label in found["skipped"]],
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise files.StoreError(f"{path}: not as bench.run and bench.tune write it ({error!r})") from error
