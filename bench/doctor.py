# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.doctor`: is this machine ready? One line per check; exit status 1, with the remedy, where one fails.

Versions, packages in the way of ours, processor and threads, memory and disk, and some seconds of physics, learning,
plotting and rendering.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import io
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.cli.installation import DISTRIBUTION, ROOT, is_checkout

if TYPE_CHECKING:
    from bench.store.remote import Remote

PACKAGES = ("algorithms", "bench")
NEEDED_DISK, NEEDED_MEMORY = 2e9, 1.5e9
"""Bytes below which a run of the smaller suites may fail."""
CACHE = "MARL_BENCH_CACHE"
"""The variable that names where this machine works on results in a store."""


class Broken(Exception):
    """What is wrong, and a command or a change that mends it."""

    def __init__(self, wrong: str, remedy: str):
        super().__init__(f"{wrong}; {remedy}")


class Finding(NamedTuple):
    """What a check found: `ok`, or a `note` on what is no failure."""

    word: str
    text: str


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing is wrong, 1 if a check fails."""
    parser = command.Parser(
        prog="python -m bench.doctor",
        description="Check that this machine is ready to train: a line each, with the remedy where something is wrong.",
    )
    parser.add_argument(
        "--results",
        type=_place,
        default=Path("results"),
        metavar="DIR",
        help="where results will go: a folder, or a place in a store, s3://BUCKET/PREFIX; default: results",
    )
    results = parser.parse_args(arguments).results
    checks: dict[str, Callable[[], Finding]] = {
        "python": python,
        "versions": versions,
        "packages": packages,
        "processor": processor,
        "threads": threads,
        "memory": memory,
        "disk": lambda: disk(*((results, "--results") if isinstance(results, Path) else (results.folder, CACHE))),
        **({} if isinstance(results, Path) else {"store": lambda: store(results)}),
        "physics": physics,
        "learning": learning,
        "plotting": plotting,
        "rendering": rendering,
    }
    failed = 0
    for name, check in checks.items():
        try:
            word, text = check()
        except Broken as broken:
            word, text = "FAILED", str(broken)
        except Exception as error:  # a package that cannot be imported, or does not do what it should
            word, text = "FAILED", f"{type(error).__name__}: {error}; install again: {_installation()}"
        failed += word == "FAILED"
        print(f"{word:<8}{name}: {command.one_line(text)}", flush=True)
    return int(failed > 0)


def _place(text: str) -> Path | Remote:
    """A folder, or a place in a store, for which the packages are imported that are to be checked."""
    if ":/" not in text:
        return Path(text)
    from bench.store.remote import location

    return location(text)


def _installation() -> str:
    if is_checkout():
        return "make clean && make test"
    return f"{sys.executable} -m pip install --force-reinstall {DISTRIBUTION}"


def python() -> Finding:
    """The version, and where it is."""
    return Finding("ok", f"{sys.version.split()[0]} ({sys.executable})")


def versions() -> Finding:
    """Installed versions are those with which published numbers are made."""
    path = ROOT / "constraints.txt"
    if not path.exists():
        return Finding("note", "no constraints.txt here, as in every installation without a checkout")
    wanted = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", path.read_text(), re.MULTILINE))
    other, missing = [], []
    for name, version in wanted.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.partition("+")[0] != version.partition("+")[0]:
            other.append(f"{name} {found}, not {version}")
    if other:
        remedy = f"{sys.executable} -m pip install -c constraints.txt -e ."
        raise Broken(f"{', '.join(other)}", f"numbers may differ from the published ones: {remedy}")
    return Finding("ok", f"{len(wanted) - len(missing)} packages as in constraints.txt")


def packages() -> Finding:
    """`bench` and `algorithms` are ours, and nothing else of that name is in the way."""
    ways = dict.fromkeys(Path(place or ".").resolve() for place in sys.path)
    found = [way / name for way in [Path.cwd(), *ways] for name in _names() if (way / name).exists()]
    others = [path for path in dict.fromkeys(found) if ROOT not in path.parents and path.parent != ROOT]
    if others:
        raise Broken(f"{others[0]} has the name of a package of ours", "rename it, or start in another folder")
    return Finding("ok", f"bench and algorithms are those in {ROOT}")


def _names() -> list[str]:
    return [name for package in PACKAGES for name in (f"{package}.py", f"{package}/__init__.py")]


def processor() -> Finding:
    """Its name, and the library that multiplies matrices on it."""
    from algorithms import matmul_library
    from bench.store.provenance import matrix_products

    return Finding("ok", f"{os.cpu_count()} cores, {matrix_products(matmul_library())}")


def threads() -> Finding:
    """Each trial computes with one thread."""
    said = os.environ["OMP_NUM_THREADS"]
    if said != "1":
        raise Broken(f"OMP_NUM_THREADS is {said}", "trials share the cores, so it should be 1: unset OMP_NUM_THREADS")
    return Finding("ok", "one per trial; --jobs says how many trials run at once")


def memory() -> Finding:
    """What is free."""
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free < NEEDED_MEMORY:
        raise Broken(text, "a trial takes about 0.5 GB, MADDPG more: end other programs, or use --jobs 1")
    return Finding("ok", text)


def disk(folder: Path, way: str) -> Finding:
    """What is free where results go, or where a machine works on them; `way` names another folder."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not place.is_dir():
        raise Broken(f"{place} is no folder", f"choose another one: {way} DIR")
    if not os.access(place, os.W_OK):
        raise Broken(f"{place} cannot be written to", f"choose another folder: {way} DIR")
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free in {place}"
    if free < NEEDED_DISK:
        raise Broken(text, f"choose another folder: {way} DIR")
    return Finding("ok", text)


def store(place: Remote) -> Finding:
    """It answers, takes what is written, and knows what leases need."""
    from bench.store.files import StoreError

    try:
        place.refuse_without_conditions()
    except StoreError as error:
        raise Broken(str(error), "docs/object-stores.md has what a store needs") from None
    return Finding("ok", f"{place} answers, and knows conditional writes")


def physics() -> Finding:
    """Every robot moves as when the published numbers were made."""
    from bench.envs.fingerprint import verdict
    from bench.envs.robots import ROBOTS
    from bench.store.trials import GOLDEN

    start = time.perf_counter()
    other = [f"{robot}: {said}" for robot in ROBOTS if (said := verdict(robot)) != GOLDEN]
    if other:
        remedy = f"{sys.executable} -m pip install -c constraints.txt mujoco"
        raise Broken(f"{len(other)} robots move otherwise, {other[0]}", f"their results cannot be pooled: {remedy}")
    return Finding("ok", f"{len(ROBOTS)} robots move as in golden.json ({time.perf_counter() - start:.1f} s)")


def learning() -> Finding:
    """Updates of HAPPO on HalfCheetah-2x3: all numbers are finite."""
    import numpy as np

    import algorithms
    from bench.tasks import registry
    from bench.trial.collect import Collector
    from bench.trial.setup import prepare_process, seeds

    prepare_process()
    settings = algorithms.settings("happo", {"rollout_length": 50})
    task = registry.task("mamujoco/HalfCheetah-2x3", {})
    updates = 3
    with closing(registry.make(task, np.random.SeedSequence(0).spawn(settings.envs))) as batch:
        learner = algorithms.build("happo", batch.team, settings, seeds(0)[0])
        collector, start = Collector(batch, settings.rollout_length), time.perf_counter()
        for _ in range(updates):
            learner.update(collector.collect(learner))
        rate = updates * settings.envs * settings.rollout_length / (time.perf_counter() - start)
    return Finding("ok", f"HAPPO on HalfCheetah-2x3, {rate:,.0f} steps/s in its first {updates} updates")


def plotting() -> Finding:
    """A figure as PNG and SVG."""
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    for kind in ("png", "svg"):
        file = io.BytesIO()
        figure.savefig(file, format=kind)
        if not file.getvalue():
            raise Broken(f"a figure as {kind} is empty", _installation())
    return Finding("ok", "PNG and SVG")


def rendering() -> Finding:
    """One picture without a screen: for videos only."""
    from bench.envs import gl

    try:
        return Finding("ok", f"a picture by {gl.way()}")
    except gl.NoPictures as reason:
        return Finding("note", f"only videos need it: {reason}")


if __name__ == "__main__":
    sys.exit(main())
