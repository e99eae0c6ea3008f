# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.play TRIAL`: let the team that a trial trained play its task, and film it with `--video`.

Prints the undiscounted team return of each episode. Equal seeds are equal episodes, filmed or not.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.cli.command import up_to
from bench.envs import gl
from bench.store.files import StoreError, slug
from bench.store.places import shown, trial_copied
from bench.store.remote import Remote, location
from bench.store.resolved import Resolved
from bench.store.trials import (
    NO_PHYSICS,
    is_published_team,
    published_teams,
    read_trial,
    read_trial_in_place,
    trials_by_folder,
)

EPISODES, FILMED = 10, 1
"""Unless told; the second with a video."""
IN_PLACE = Path()
"""`--video` without a file."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all episodes are played, 2 for bad input and where no video can be made, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    filmed = options.grid or options.video is not None
    named = None if options.video == IN_PLACE else options.video
    if named and named.suffix != ".mp4":
        parser.error(f"--video {named}: must end in .mp4")
    if filmed and not named and isinstance(options.trial, Remote):
        parser.error("--video FILE.mp4 is needed: a video is not written into a store")
    try:
        place = trial_copied(options.trial)
        about = read_trial(place / "trial.json")
        folders = _of_all_algorithms(place, about) if options.grid else [place]
        target = (named or _own_place(place, about, options.grid)) if filmed else None
        if filmed and about["provenance"].get("physics") != NO_PHYSICS:
            os.environ[gl.VARIABLE] = gl.way()  # before what follows imports MuJoCo
    except (StoreError, gl.NoPictures) as error:
        return command.refused(f"bench.play: {shown(options.trial, error)}")
    return _play(folders, target, options.episodes or (FILMED if filmed else EPISODES), options)


def _play(folders: Sequence[Path], target: Path | None, count: int, options: Any) -> int:
    from bench.envs.errors import EnvError
    from bench.trial import playing
    from bench.trial.setup import episode_seeds
    from bench.trial.trained import load_team

    try:
        teams = [load_team(folder, options.policy) for folder in folders]
        how = "sampled" if options.sampled else "deterministic"
        with playing.film(target, teams) if target else nullcontext() as film:
            one_seed = len({team.seed for team in teams}) == 1  # published teams are those of the median seeds
            of_seed = f" seed {teams[0].seed}" if one_seed else ""
            print(f"{teams[0].task.label}{of_seed}, {options.policy} policy, {how} actions", flush=True)
            seeds = episode_seeds(options.seed, count)
            ended = playing.episodes(teams, seeds, sampled=options.sampled, into=film)
            labels = [team.algorithm if one_seed else f"{team.algorithm} seed {team.seed}" for team in teams]
            _print_returns(labels, ended)
    except (StoreError, ValueError, EnvError, gl.NoPictures) as error:
        return command.refused(f"bench.play: {shown(options.trial, error)}")
    if target:
        print(target)
    return 0


def _print_returns(labels: Sequence[str], ended: Iterable[Sequence[Any]]) -> None:
    """A line for each episode with every team's return and length, then the means."""
    widths = [max(len(label), 20) for label in labels]
    print("episode", *(f"{label:>{width}}" for label, width in zip(labels, widths, strict=True)))
    returns: list[list[float]] = []
    for number, of_teams in enumerate(ended):
        returns.append([float(one.returns[0]) for one in of_teams])
        cells = [f"{one.returns[0]:,.2f} in {one.lengths[0]:>4}" for one in of_teams]
        print(f"{number:>7}", *(f"{x:>{width}}" for x, width in zip(cells, widths, strict=True)), flush=True)
    if len(returns) > 1:
        means = [sum(column) / len(column) for column in zip(*returns, strict=True)]
        print(f"{'mean':>7}", *(f"{f'{x:,.2f}':>{width}}" for x, width in zip(means, widths, strict=True)))


def _of_all_algorithms(place: Path, about: Mapping[str, Any]) -> list[Path]:
    """The folders of the finished trials on the same task with the same seed, in the order of the suite.

    Of published teams, of which there is one for each algorithm, those on the same task.
    """
    read_trial_in_place(place.absolute() / "trial.json")
    suite = place.absolute().parents[3]
    if is_published_team(place):
        trials, keys = published_teams(suite), ["task"]
    else:  # a published suite that went on has teams of trials that have no folder any more
        trials, keys = published_teams(suite) | trials_by_folder(suite), ["task", "seed"]
    alike = [(folder, x) for folder, x in trials.items() if all(x[key] == about[key] for key in keys)]
    others = {x["algorithm"]: (folder, x) for folder, x in sorted(alike, key=lambda one: _has_team(one[0]))}
    resolved = Resolved.read(suite)
    order = [*(resolved.algorithms if resolved else ()), *sorted(others)]
    known = [others[label] for label in dict.fromkeys(order) if label in others]
    done = [(folder, x) for folder, x in known if x["status"] == "done"]
    _say_left_out("not done", [x for _, x in known if x["status"] != "done"])
    _say_left_out("without a team there", [x for folder, x in done if not _has_team(folder)])
    if not (teams := [folder for folder, _ in done if _has_team(folder)]):
        raise StoreError(f"{suite}: no trial on {about['task']} with seed {about['seed']} is done")
    return teams


def _has_team(folder: Path) -> bool:
    return (folder / "policy.pt").exists()


def _say_left_out(why: str, trials: Sequence[Mapping[str, Any]]) -> None:
    if trials:
        print(f"left out: {', '.join(x['algorithm'] for x in trials)}, {why}", file=sys.stderr)


def _own_place(place: Path, about: Mapping[str, Any], grid: bool) -> Path:
    """Where the report looks for videos."""
    if not grid:
        return place / "play.mp4"
    seed = "" if is_published_team(place) else f"-seed-{about['seed']:02d}"
    return place.absolute().parents[3] / "videos" / f"{slug(about['task'])}{seed}.mp4"


def _parser() -> command.Parser:
    parser = command.Parser(
        prog="python -m bench.play", description="Let the team that a trial trained play its task, and film it."
    )
    parser.add_argument(
        "trial",
        type=location,
        metavar="TRIAL",
        help="its folder, or SUITE/task/algorithm/seed as results/quick/.../happo/0; SUITE may be s3://BUCKET/PREFIX/quick",
    )
    parser.add_argument("--policy", choices=["best", "last"], default="best", help="default: best")
    parser.add_argument(
        "--episodes", type=up_to(10_000), metavar="N", help=f"default: {EPISODES}, with a video {FILMED}"
    )
    parser.add_argument("--seed", type=up_to(10**9, 0), default=0, metavar="N", help="of the episodes; default: 0")
    parser.add_argument("--sampled", action="store_true", help="draw actions from the policy, as in training")
    parser.add_argument(
        "--video",
        type=Path,
        nargs="?",
        const=IN_PLACE,
        metavar="FILE.mp4",
        help="film the episodes; without a name the file is play.mp4 in the trial's folder, where the report shows it",
    )
    parser.add_argument(
        "--grid",
        action="store_true",
        help="film all algorithms of the suite on the trial's task with its seed, side by side",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
