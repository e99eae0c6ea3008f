# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.golden`: are the physics here those of golden.json? One line per robot; status 1 where one differs.

A first line names the library that multiplies matrices in training: physics do not depend on it, results in their last
bits do.

Every robot plays STEPS steps of fixed actions from a fixed state, and the states and rewards on the way are compared
with the stored ones. They must agree within TOLERANCE, because processors and compilers round differently, and the
MuJoCo version must be the same, because some versions differ by no more than that. Every trial keeps the verdict on
its robot, and `bench.report` refuses trials whose physics differ.

For maintainers: after a deliberate change of the MuJoCo version or of a model, `--write` stores the numbers found
here. They are new numbers: results from before must not be pooled with those that come after.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Sequence

from algorithms import matmul_library
from bench.envs.fingerprint import PATH, verdict, write
from bench.envs.robots import ROBOTS
from bench.store.provenance import matrix_products, mujoco_version
from bench.store.trials import GOLDEN


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdicts, or store what was found."""
    parser = command.Parser(
        prog="python -m bench.golden",
        description="Compare the physics of every robot with golden.json; exit with 1 where they differ.",
    )
    parser.add_argument("--write", action="store_true", help="for maintainers: store the numbers found here instead")
    if parser.parse_args(arguments).write:
        write()
        print(f"{PATH}: MuJoCo {mujoco_version()}, {len(ROBOTS)} robots")
        return 0
    print(matrix_products(matmul_library()))
    verdicts = {robot: verdict(robot) for robot in ROBOTS}
    for robot, said in verdicts.items():
        print(f"{robot:<20} {said}")
    return int(set(verdicts.values()) != {GOLDEN})


if __name__ == "__main__":
    sys.exit(main())
