"""The suites and studies that come with the benchmark, by the names of their files."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """Name -> file. They lie in `suites/` of a checkout, which becomes `bench/suites/` of an installed package."""
    folders = (PACKAGE / "suites", PACKAGE.parent / "suites")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(argument: str) -> Path:
    """The file that an argument names: a file, or else a suite that comes with the benchmark."""
    if "://" in argument:
        raise ArgumentTypeError(f"{argument!r} is no file of this machine; an address is for --results")
    path = Path(argument)
    return path if path.is_file() else shipped().get(argument, path)


def what_there_is(path: Path) -> str:
    """What might have been meant by a file that does not exist."""
    near = ", ".join(map(str, sorted(path.parent.glob("*.yaml"))))
    return f"; by name there are: {', '.join(shipped())}" + (f"; files there: {near}" if near else "")
