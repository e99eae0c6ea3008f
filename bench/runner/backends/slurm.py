"""Slurm, by submitit: one array job, whose tasks Slurm starts where and when there is room, and again after a timeout.

Its folder, `.submitit` in the current one unless `folder=` says otherwise, holds scripts, logs, results and what tasks
tell. The nodes have to share it, as they share the code and the results.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from uuid import uuid4

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError

from bench.cli.command import between, up_to
from bench.runner.backends import Ask, Backend, Function, Hear, Lost, Message, NotBegun, T, Work, place
from bench.suite.model import SuiteError

POLL_SECONDS = 1.0
SETTLE_SECONDS = 60.0
DAY_MINUTES = 24 * 60
MOST_TIMEOUTS = 1000
MOST_LOSSES = 3
"""So many tasks may end without a result before their work is given up; Slurm has restarted each as it is set up to."""
OWN_GIGABYTES = 1.0
"""What a task takes beside its trial."""
CLUSTERS = ("slurm", "local")
TRUTH = {"true": True, "false": False}
KINDS: dict[type, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    int: (up_to(10**9, least=0), "a whole number"),
    float: (between(0, 1e9), "a number above 0"),
    bool: (lambda text: TRUTH[text.lower()], "true or false"),
}
"""Type of a parameter -> how its value is read, and what it is for people."""
LISTS = ("slurm_setup", "slurm_srun_args")
"""Parameters of which submitit takes a list."""


class Slurm(Backend):
    """A user of a cluster; `cluster=local` runs tasks on this machine, to try things out."""

    endless = False
    pause = 10.0

    def __init__(self, jobs: int, parameters: dict[str, Any]):
        self.jobs, self.parameters = jobs, parameters
        self.cluster = parameters.pop("cluster", CLUSTERS[0])
        self.folder = Path(parameters.pop("folder", ".submitit")).absolute() / uuid4().hex[:12]
        self.executor([Work(None)])  # refuses parameters before anything is computed

    def executor(self, work: Sequence[Work[Any]]) -> submitit.AutoExecutor:
        """What submits an array, each task of which asks for as much as the one that needs most."""
        cores, memory = max(each.cores for each in work), max(each.memory for each in work)
        needs = {"cpus_per_task": cores, "mem_gb": OWN_GIGABYTES + 1.5 * memory / 2**30, "timeout_min": DAY_MINUTES}
        at_once = {"slurm_array_parallelism": min(self.jobs or len(work), len(work)), "name": "bench"}
        try:
            made = submitit.AutoExecutor(self.folder, cluster=self.cluster, slurm_max_num_timeout=MOST_TIMEOUTS)
            made.update_parameters(**(needs | at_once | self.parameters))
        except (NameError, ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise SuiteError(f"--on slurm: submitit refuses --address: {error}") from None
        except OSError as error:
            raise SuiteError(f"--address folder={self.folder.parent}: cannot be written: {error.strerror}") from None
        return made

    def at_once(self, cores: int) -> int:
        """On a cluster as many as were asked for, which may have to wait, or nobody knows."""
        return self.jobs or (0 if self.cluster == "slurm" else max((os.cpu_count() or 1) // cores, 1))

    def run(self, function: Function[T], work: Iterable[Work[T]], ask: Ask, hear: Hear) -> Generator[Any]:
        """All is submitted at the beginning, on this machine as much as runs at once."""
        task, post, losses = _Task(function, ask, ask()), _Post(self.folder), Counter[int]()
        all_work, at_work = [*work], dict[submitit.Job[Any], int]()
        waiting = [*range(len(all_work))]
        most = len(all_work) if self.cluster == "slurm" else self.at_once(max((w.cores for w in all_work), default=1))
        try:
            while waiting or at_work:
                if begin := waiting[: most - len(at_work)]:
                    at_work |= self._submit(task, all_work, begin, post)
                    del waiting[: len(begin)]
                for job in [job for job in at_work if job.done()]:
                    number = at_work.pop(job)
                    result = _result(job, all_work[number].item)
                    if isinstance(result, _GivenBack):
                        waiting.insert(0, number)
                        hear("A task of Slurm was ended with 1 trial, to go on from the last checkpoint")
                    elif isinstance(result, Lost) and losses[number] < MOST_LOSSES and _no_result(job):
                        losses[number] += 1
                        waiting.insert(0, number)
                        hear(
                            f"A task of Slurm was lost with 1 trial, to go on from the last checkpoint: {result.reason}"
                        )
                    else:
                        yield result
                for message in post.take():
                    hear(message)
                time.sleep(POLL_SECONDS)
        finally:
            self._cancel([*at_work])
            post.close()

    def _submit(
        self, task: _Task, work: Sequence[Work[Any]], numbers: Sequence[int], post: _Post
    ) -> dict[submitit.Job[Any], int]:
        chosen = [work[number] for number in numbers]
        try:
            with _without_ctrl_c():
                jobs = self.executor(chosen).map_array(task, [w.item for w in chosen], map(post.box, numbers))
        except (OSError, RuntimeError, submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            raise SuiteError(f"--on slurm: cannot be submitted: {error}") from None
        return dict(zip(jobs, numbers, strict=True))

    def _cancel(self, jobs: Sequence[submitit.Job[Any]]) -> None:
        """End all that is left, an array at a time, and wait until it has ended."""
        if self.cluster == "slurm":
            for array in {job.job_id.partition("_")[0] for job in jobs}:
                subprocess.call(["scancel", array])
        end = time.monotonic() + SETTLE_SECONDS
        while (left := [job for job in jobs if not job.done(force_check=True)]) and time.monotonic() < end:
            if self.cluster == "local":  # again and again: submitit passes on what comes too early to nobody
                for job in left:
                    os.kill(int(job.job_id), signal.SIGTERM)
            time.sleep(POLL_SECONDS)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Let processes that begin meanwhile on this machine take no notice of Ctrl-C, which is for the command alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _no_result(job: submitit.Job[Any]) -> bool:
    return not job.paths.result_pickle.exists()


def _result(job: submitit.Job[Any], item: Any) -> Any:
    try:
        return job.result()
    except UncompletedJobError:
        return Lost(item, "its task of Slurm ended without a result")
    except FailedJobError as error:
        return Lost(item, str(error).strip().splitlines()[-1])


class _GivenBack:
    """The result of a task that was ended before its work was: by a preemption, or somebody's `scancel`."""


class _Task:
    """What a task does. submitit starts it again after a timeout with what `checkpoint` returns."""

    def __init__(self, function: Function[Any], ask: Ask, here: dict[str, Any]):
        self.function, self.ask, self.here = function, ask, here

    def __call__(self, item: Any, box: Path) -> Any:
        """Slurm ends a task by SIGTERM some time before it kills it."""
        if wrong := place.differences(self.here, self.ask()):
            return NotBegun(item, f"its node has {wrong}")
        os.environ["OMP_NUM_THREADS"] = "1"  # as bench.run sets it, for the processes that are started here
        channel = _Channel(box)
        signal.signal(signal.SIGTERM, lambda number, frame: channel.stop.set())
        result = self.function(item, channel)
        return _GivenBack() if channel.is_set() else result

    def checkpoint(self, item: Any, box: Path) -> submitit.helpers.DelayedSubmission:
        """What Slurm submits again: the trial goes on from its own checkpoint."""
        return submitit.helpers.DelayedSubmission(self, item, box)


class _Channel:
    """The channel of a task: a file that it appends to."""

    def __init__(self, box: Path):
        self.box, self.stop = box, threading.Event()

    def tell(self, message: Message) -> None:
        with suppress(OSError), self.box.open("ab") as file:  # what it tells is not worth a trial
            file.write(pickle.dumps(message))

    def is_set(self) -> bool:
        return self.stop.is_set()


class _Post:
    """The files to which the tasks of a run append what they tell."""

    def __init__(self, folder: Path):
        self.folder, self.read = folder / f"told-{uuid4().hex[:8]}", Counter[str]()
        self.folder.mkdir(parents=True)

    def box(self, number: int) -> Path:
        """That of a task."""
        return self.folder / str(number)

    def close(self) -> None:
        """Nobody tells anything any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def take(self) -> Iterator[Message]:
        """What is new."""
        for entry in os.scandir(self.folder):
            if entry.stat().st_size > self.read[entry.name]:
                with Path(entry.path).open("rb") as file:
                    file.seek(self.read[entry.name])
                    while file.tell() < entry.stat().st_size:
                        try:
                            yield pickle.load(file)
                        except Exception:  # half written, or torn for good, whatever pickle makes of that
                            break
                        self.read[entry.name] = file.tell()


def connect(address: str | None, jobs: int | None) -> Slurm:
    """`address`: parameters of submitit, such as slurm_partition=cpu,timeout_min=720."""
    parts = [part.partition("=") for part in (address or "").split(",") if address]
    if wrong := ["".join(part) for part in parts if not all(part)]:
        raise SuiteError(f"--address: {wrong[0]!r} is not KEY=VALUE; for Slurm: slurm_partition=cpu,timeout_min=720")
    parameters: dict[str, Any] = {}
    for key, _, value in parts:
        if key in parameters:
            raise SuiteError(f"--address {key}={value}: {key} is given twice")
        parameters[key] = _parsed(key, value)
    cluster = parameters.get("cluster", CLUSTERS[0])
    if cluster not in CLUSTERS:
        raise SuiteError(f"--address cluster={cluster}: no such cluster; valid: {', '.join(CLUSTERS)}")
    if cluster == "slurm" and not all(map(shutil.which, ("srun", "sbatch"))):
        raise SuiteError(
            "--on slurm: srun and sbatch are not installed here; run the command where jobs are submitted to the "
            "cluster, or try it out on this machine: --address cluster=local"
        )
    return Slurm(jobs or 0, parameters)


def _parsed(key: str, value: str) -> Any:
    """The value of a parameter. Raises SuiteError where submitit knows no such parameter, or it is of another type."""
    types: dict[str, type] = {"cluster": str, "folder": str, **submitit.AutoExecutor._typed_parameters()}
    of_slurm = sorted(f"slurm_{name}" for name in submitit.SlurmExecutor._valid_parameters())
    if key == "slurm_additional_parameters":
        raise SuiteError(f"--address {key}={value}: is a mapping, which cannot be written here")
    if key in LISTS:
        return [value]
    if key in of_slurm:
        return int(value) if value.isascii() and value.isdigit() else TRUTH.get(value.lower(), value)
    if key not in types:
        valid = of_slurm if key.startswith("slurm_") else [*types, "slurm_..."]
        like = "".join(f"did you mean {name}? " for name in get_close_matches(key, [*types, *of_slurm], 1))
        raise SuiteError(f"--address {key}={value}: submitit knows no such parameter; {like}valid: {', '.join(valid)}")
    parse, noun = KINDS[types[key]]
    try:
        parsed = parse(value)
        if type(parsed) in (int, float) and not parsed and key != "gpus_per_node":
            raise ValueError(f"{key} of 0")
        return parsed
    except (ValueError, KeyError, ArgumentTypeError):
        raise SuiteError(f"--address {key}={value}: {value!r} is not {noun}") from None
