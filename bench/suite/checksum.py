"""The checksum in the first line of a file that one command writes and another one reads: a comment of YAML."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from bench.suite.model import SuiteError

_LINE = re.compile("# Checksum of the lines below: ([^.]*)")


def with_checksum(text: str) -> str:
    """`text` below a line with its checksum."""
    return f"# Checksum of the lines below: {_digest(text)}. To change them, delete this line.\n{text}"


def refuse_changed(path: Path) -> None:
    """Refuse a file that begins with a checksum which is not that of its other lines."""
    first, _, rest = path.read_text(encoding="utf-8-sig").partition("\n")
    found = _LINE.match(first)
    if found and found[1] != _digest(rest):
        raise SuiteError(
            f"{path}: changed after it was written: its lines have the checksum {_digest(rest)}, not {found[1]}; bring "
            "back the file as it was or, if the change is meant, delete its first line"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
