"""`study.json`: to which study and storage the tuning trials in a folder belong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import StringConstraints, ValidationError

from bench.store import files
from bench.suite.model import Strict, SuiteError

NAME = "study.json"


class Identity(Strict):
    """What `study.json` says."""

    folder: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
    """A random id, which the storage has too."""
    hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")]
    """`Plan.hash` of the study."""
    storage: Annotated[str, StringConstraints(min_length=1)]
    """The storage: a file, relative to the folder, or a URL without its password."""

    def write(self, folder: Path) -> None:
        """Write it with a checksum."""
        files.write_json(folder / NAME, self.model_dump() | {"checksum": self._checksum()})

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it from a folder; None if it is not there."""
        path = folder / NAME
        if not path.exists():
            return None
        try:
            document = files.read_json(path)
            checksum = document.pop("checksum", None) if isinstance(document, dict) else None
            found = cls.model_validate(document)
            if checksum == found._checksum():
                return found
        except (files.StoreError, ValidationError, RecursionError):
            pass
        raise SuiteError(
            f"{path}: damaged, or not written by this version of bench.tune; bring back a copy, or delete it: the "
            "study goes on with what its storage says of the folder"
        )

    def _checksum(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump()).encode()).hexdigest()[:12]
