"""`python -m bench`: the commands, one line each. `python -m bench run ...` is `python -m bench.run ...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bench.cli import command

COMMANDS = {
    "run": "train and evaluate every trial of a suite",
    "report": "make figures, tables and a page from the results",
    "play": "let a trained team play its task, and film it",
    "export": "write a trained team in the layout of Hugging Face's hub",
    "tune": "tune every algorithm of a study with the same budget",
    "plan": "simulate what a suite would take on a cluster",
    "verify": "check that results are whole, unchanged and can be made again",
    "merge": "bring the trials of a suite that ran in several folders into one",
    "publish": "make the compact form of results, to be kept in git",
    "tasks": "list the tasks",
    "check": "check that an environment keeps the contract",
    "doctor": "check that this machine is ready",
    "golden": "compare this machine's physics with those of the published numbers",
    "reference": "measure the scores that normalise returns",
    "speed": "measure the speed of training beside its limit",
}
"""Not read from the modules: importing those takes seconds."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """List the commands, or become one of them; 2 for one that does not exist."""
    listed = "\n".join(f"  {name:<11} {what}" for name, what in COMMANDS.items())
    parser = command.Parser(
        prog="python -m bench",
        usage="%(prog)s COMMAND ...",
        description="Each COMMAND has --help.",
        epilog=f"commands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    os.execv(sys.executable, [sys.executable, "-m", f"bench.{options.command}", *options.arguments])


if __name__ == "__main__":
    sys.exit(main())
