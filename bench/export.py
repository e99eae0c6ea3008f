# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.export TRIAL DIR`: write a trained team in the layout of Hugging Face's hub, with a loader.

Nothing is uploaded.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Sequence

from bench.cli.installation import installing
from bench.store.files import StoreError
from bench.store.places import shown, trial_copied
from bench.store.remote import local_folder, location
from bench.trial.exporting import export


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all files are written, 2 when none is: bad input, a folder that is not empty, a missing package."""
    parser = command.Parser(
        prog="python -m bench.export",
        description="Write the team that a trial trained as model.safetensors, config.json, README.md and policy.py.",
    )
    where = "its folder, or SUITE/task/algorithm/seed; SUITE may be s3://BUCKET/PREFIX/<suite>"
    parser.add_argument("trial", type=location, metavar="TRIAL", help=where)
    parser.add_argument(
        "into", type=local_folder, metavar="DIR", help="empty, not there, or with an earlier export of the trial"
    )
    parser.add_argument("--policy", choices=["best", "last"], default="best", help="default: best")
    options = parser.parse_args(arguments)
    try:
        export(trial_copied(options.trial), options.into, options.policy)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "safetensors":
            raise
        return command.refused(f"bench.export: needs the extra export: {installing('export')}")
    except (StoreError, ValueError) as error:
        return command.refused(f"bench.export: {shown(options.trial, error)}")
    print(options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
