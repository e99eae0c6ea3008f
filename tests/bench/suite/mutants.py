"""Suites and arguments that nobody would write on purpose, made of those that come with the benchmark.

`python mutants.py FIRST COUNT FOLDER` gives COUNT of them, made from the seeds FIRST, FIRST + 1, ..., to the commands,
and prints what became of each, a line of JSON each. It is a process of its own because peak memory is one of a process.
"""

from __future__ import annotations

import io
import json
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import yaml

from bench import run
from bench.runner import preparing
from bench.suite.yaml12 import parse
from bench.trial.link import Link
from bench.tune import __main__ as tune
from bench.tune import preparing as tuning_preparing

SUITES = Path(__file__).resolve().parents[3] / "suites"
BASES = [
    "quick",
    "quick",
    "pettingzoo",
    "halfcheetah_1m",
    "tune_quick",
    "tune_quick",
    "mamujoco",
    "paper",
    "tune_mamujoco",
]
SECONDS = 5

LABELS = ["ippo", "mappo", "happo", "hatrpo", "maddpg"]
BEST = {
    "algorithms": {"happo": {"clip": 0.1}},
    "tuning": {"happo": {"study": "x", "trials": 3, "steps": 100, "first_seed": 1000, "seeds": 1, "hash": "ab"}},
}
NUMBERS = [0, -1, 1, 2, 7, 10**4, 10**5, 10**9, 10**20, -(10**20), 10**4000, 0.5, -0.0, 1e-320, 1e20, 1e308]
NUMBERS += [float("nan"), float("inf"), float("-inf"), 42000, 2**31, 2**32, 2**63, 2**64]
WORDS = [
    "",
    " ",
    "x",
    "skip",
    "null",
    "true",
    "nan",
    ".inf",
    "1e400",
    "2026-99-99",
    "=",
    "<<",
    "../../x",
    "python:os:getcwd",
]
WORDS += [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\ud800",
    "\x00",
    "\ufeff",
    "\u202edrawkcab",
    "\u2028",
    "é",
    "😀",
    "a b",
]
WORDS += ["a\nb", "%s%d{0}{x}", "'\"`$(ls)", "x" * 300, "x y " * 500, "9" * 5000, "[" * 5000, "mamujoco/Ant-999x999"]
WORDS += ["mamujoco/ManySegmentSwimmer-50x2", "pettingzoo/multiwalker_v9", "x" * 200_000, "x" * 1_100_000]
KEYS = [None, True, 1, 1.5, date(2026, 1, 1), *WORDS[:-2]]
TAGS = ["!!int ", "!!float ", "!!binary ", "!!set ", "!!omap ", "!!merge ", "!!timestamp ", "!!python/name:os.system "]
TAGS += [
    "!!python/object/apply:os.getcwd ",
    "! ",
    "!<x> ",
    "&a ",
    "*a ",
    "*",
    "&",
    "? ",
    "- ",
    "[",
    "{",
    "| ",
    "> ",
    "%",
]
BOMB = "\na0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


class TooLong(BaseException):
    """A case that takes more than SECONDS of a processor; what catches exceptions does not catch it."""


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (mapping or list, key or index) in a document."""
    own = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in own] + [place for key in own for place in _places(value[key])]


def _odd(draw: random.Random) -> Any:
    kind = draw.randrange(6)
    if kind < 2:
        return draw.choice(NUMBERS)
    if kind < 4:
        return draw.choice(WORDS)
    if kind == 4:
        return draw.choice([None, True, False, [], {}, [[]], {"": {}}, date(2026, 1, 1), b"\xff\x00", {1, 2}])
    value: Any = draw.choice(NUMBERS)
    for _ in range(draw.choice([1, 2, 5, 18, 30, 100])):
        value = [value, value] if draw.random() < 0.2 else {"x": value} if draw.random() < 0.5 else [value]
        value = value if len(str(value)) < 10_000 else 0
    return value


def _replace(draw: random.Random, document: Any) -> None:
    holder, key = draw.choice(_places(document))
    holder[key] = _odd(draw)


def _drop(draw: random.Random, document: Any) -> None:
    holder, key = draw.choice(_places(document))
    del holder[key]


def _repeat(draw: random.Random, document: Any) -> None:
    holder, key = draw.choice(_places(document))
    if isinstance(holder, list):
        holder.extend([holder[key]] * draw.choice([1, 3, 1000]))
    else:
        for i in range(draw.choice([1, 3, 300])):
            holder[f"{key}{i}"] = holder[key]


def _rename(draw: random.Random, document: Any) -> None:
    holder, key = draw.choice(_places(document))
    if isinstance(holder, dict):
        holder[draw.choice(KEYS)] = holder.pop(key)


def _swap(draw: random.Random, document: Any) -> None:
    (one, a), (two, b) = draw.choice(_places(document)), draw.choice(_places(document))
    one[a], two[b] = json.loads(json.dumps(two[b], default=str)), json.loads(json.dumps(one[a], default=str))


def _flip(draw: random.Random, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(draw.choice([1, 2, 10])):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(draw: random.Random, text: bytes) -> bytes:
    return text[: draw.randrange(len(text))]


def _cut_out(draw: random.Random, text: bytes) -> bytes:
    start = draw.randrange(len(text))
    return text[:start] + text[start + draw.choice([1, 2, 5, 50]) :]


def _line_again(draw: random.Random, text: bytes) -> bytes:
    lines = text.split(b"\n")
    at = draw.randrange(len(lines))
    return b"\n".join(
        [*lines[:at], *[lines[at]] * draw.choice([2, 2, 100_000 // (len(lines[at]) + 1)]), *lines[at + 1 :]]
    )


def _tag(draw: random.Random, text: bytes) -> bytes:
    for _ in range(draw.choice([1, 2])):
        at = draw.choice([i for i, byte in enumerate(text) if byte in b" -[{,"] or [0]) + 1
        text = text[:at] + draw.choice(TAGS).encode() + text[at:]
    return text


def _whole(draw: random.Random, text: bytes) -> bytes:
    return draw.choice(
        [
            text + BOMB.encode(),
            text.replace(b"algorithms:", b"algorithms: &self", 1) + b"\nx: *self\n",
            text.replace(b"defaults:", b"defaults: &d", 1) + b"\nper_task: {x: {<<: *d}}\n",
            b"\xef\xbb\xbf" + text,
            text.decode(errors="replace").encode("utf-16"),
            text.decode(errors="replace").encode("latin-1", errors="replace"),
            text.replace(b"\n", b"\r\n"),
            text.replace(b"  ", b"\t"),
            text + b"\n---\n" + text,
            b"[" * 100_000,
            b"{a: " * 100_000,
            b"- " * 200_000,
            text + b"\nn: " + b"9" * 5000,
            b"\x00" * 5000,
            text + b"#" * 1_000_000,
            b"a: " + b"x " * 400_000,
            b"",
        ]
    )


DOCUMENTS: list[Callable[[random.Random, Any], None]] = [_replace, _replace, _replace, _drop, _repeat, _rename, _swap]
TEXTS: list[Callable[[random.Random, bytes], bytes]] = [_flip, _cut, _cut_out, _line_again, _tag, _tag, _whole]


def _mutated(draw: random.Random, text: str) -> bytes:
    if draw.random() < 0.6:
        document = parse(text)
        for _ in range(draw.choice([1, 1, 2, 3])):
            if _places(document):
                draw.choice(DOCUMENTS)(draw, document)
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=False)
    raw = text.encode()
    return draw.choice(TEXTS)(draw, raw) if draw.random() < 0.5 and raw else raw


def _arguments(draw: random.Random, text: str, folder: Path) -> list[str]:
    """`--set`, `--only` and `--include` of what does not fit."""
    document, word = parse(text), str(_odd(draw)).replace("\0", "")[:100_000]  # the system's limit for an argument
    kind = draw.randrange(4)
    if kind == 0:
        return [f"--only={draw.choice(['task=', 'seed=', 'algorithm=', 'x=', ''])}{word}"]
    if kind == 1:
        (folder / "best.yaml").write_bytes(_mutated(draw, yaml.safe_dump(BEST)))
        return ["--include", str(folder / "best.yaml")]
    way = [str(key) for _, key in draw.choices(_places(document), k=draw.choice([1, 2, 3]))]
    if kind == 2:
        way = draw.choice([way, ["tasks", "0"], ["algorithms", draw.choice(LABELS)], [word], ["defaults"] * 3000])
    return [f"--set={'.'.join(way)}={word}"]


def case(seed: int, folder: Path) -> tuple[Callable[..., int], list[str]]:
    """The command and the arguments of one case, whose files are written into the folder."""
    draw = random.Random(seed)
    base = draw.choice(BASES)
    text = (SUITES / f"{base}.yaml").read_text()
    path = folder / "suite.yaml"
    given = [str(path), "--dry-run", "--results", str(folder / "results")]
    if draw.random() < 0.25:
        path.write_text(text)
        extra = _arguments(draw, text, folder)
        given += extra if not base.startswith("tune_") or extra[0].startswith("--set") else []
    else:
        path.write_bytes(_mutated(draw, text))
    return (tune if base.startswith("tune_") else run).main, given


def _stop(*_: object) -> NoReturn:
    raise TooLong


def _peak_megabytes() -> int:
    """Of this process alone: Linux counts that of the process that started it into ru_maxrss."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20


def outcome(seed: int, folder: Path) -> dict[str, Any]:
    """What a command says of a case, in how much time and memory."""
    main, arguments = case(seed, folder)
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    begun = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        err.write(traceback.format_exc()[-2000:])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "seed": seed,
        "status": status,
        "out": out.getvalue()[:100],
        "err": err.getvalue(),
        "seconds": round(time.process_time() - begun, 2),
        "megabytes": _peak_megabytes(),
    }


def main(first: int, count: int, folder: Path) -> None:
    """Print the outcomes. What a plan costs is not measured: that is not about reading."""
    signal.signal(signal.SIGPROF, _stop)
    preparing.call = lambda function, *arguments, **_: function(*arguments, link=Link())
    for module in (preparing, tuning_preparing):
        module.costs = lambda *_, **__: {}  # type: ignore[attr-defined]
        module.physics_warning = lambda _: ""  # type: ignore[attr-defined]
    for seed in range(first, first + count):
        print(json.dumps(outcome(seed, folder)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
