"""Checksums that files carry in themselves, so that no damaged byte is taken for a number."""

from __future__ import annotations

import errno
import hashlib
import re
import zipfile
from pathlib import Path

PREFIX = b"file-sha256:"
PLACEHOLDER = PREFIX + 64 * b"0"
"""What a file holds, once, where its checksum is to stand: that of all its bytes with this placeholder in them."""

_LINE = re.compile("# Checksum of the lines below: ([^.]*)")


class Damaged(ValueError):
    """Bytes that are not those that were written."""


def sealed(content: bytes) -> bytes:
    """The content of a file with its checksum in place of the placeholder, the last one if it has several."""
    head, found, tail = content.rpartition(PLACEHOLDER)
    if not found:
        raise ValueError("no placeholder for a checksum")
    return head + PREFIX + hashlib.sha256(content).hexdigest().encode() + tail


def checksum(content: bytes) -> str:
    """The checksum that the content of a file carries. Raises Damaged if it has none, or one of other content."""
    at = content.rfind(PREFIX)
    if at < 0:
        raise Damaged("carries no checksum: damaged, or of another version of the benchmark")
    end = at + len(PLACEHOLDER)
    original = content[:at] + PLACEHOLDER + content[end:]
    carried = content[at + len(PREFIX) : end].decode("ascii", "replace")
    if hashlib.sha256(original).hexdigest() != carried:
        raise Damaged("was damaged or changed after it was written")
    return carried


def check_archive(path: Path) -> None:
    """Compare every part of a file that torch.save wrote with its CRC, which torch.load does not. Raises Damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except Exception as error:  # whatever zipfile makes of broken headers, also that it seeks before the beginning
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise Damaged(f"was damaged after it was written: {error}") from error
    if part is not None:
        raise Damaged("was damaged after it was written: a part of it differs from its checksum")


def with_line(text: str) -> str:
    """The text of a YAML file below a comment with its checksum."""
    return f"# Checksum of the lines below: {_digest(text)}. To change them, delete this line.\n{text}"


def check_line(path: Path) -> None:
    """Raises Damaged for a file that begins with such a line where its other lines have another checksum."""
    first, _, rest = path.read_text(encoding="utf-8-sig").partition("\n")
    found = _LINE.match(first)
    if found and found[1] != _digest(rest):
        raise Damaged(
            f"{path}: changed after it was written: its lines have the checksum {_digest(rest)}, not {found[1]}; bring "
            "back the file as it was or, if the change is meant, delete its first line"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
