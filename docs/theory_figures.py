"""Draws the figures of theory.md into docs/figures/: `python docs/theory_figures.py`.

Everything in them is computed from the games by `algorithms.exact`; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from algorithms.exact import Game, expected_return, sequential_update, simultaneous_update
from bench.envs.games import Table, driving, random_game
from bench.report.plots import RC

FOLDER = Path(__file__).parent / "figures"
DELTA = 0.05
UPDATES = 12
Step = Callable[[Game, list[Tensor], int], list[Tensor]]
STEPS: dict[str, tuple[str, Step]] = {
    "all agents at once, within KL δ": ("#c23b22", lambda g, pi, k: simultaneous_update(g, pi, DELTA)),
    "one after the other, with the penalty": ("#2e8b57", lambda g, pi, k: sequential_update(g, pi, order(pi, k))),
    "one after the other, within KL δ": ("#1f5fa8", lambda g, pi, k: sequential_update(g, pi, order(pi, k), DELTA)),
}


def order(pi: list[Tensor], k: int) -> list[int]:
    """Another agent begins at every update."""
    return [(i + k) % len(pi) for i in range(len(pi))]


def exact(table: Table, gamma: float) -> Game:
    """The game of a table with a discount."""
    return Game(*(torch.from_numpy(x) for x in (table.transition, table.reward, table.initial)), gamma)


def path(game: Game, pi: list[Tensor], step: Step) -> list[list[Tensor]]:
    """The joint policies before and after each update."""
    found = [pi]
    for k in range(UPDATES):
        found.append(step(game, found[-1], k))
    return found


def drivers(ax: Axes) -> None:
    """J of the probabilities with which the two drivers pull, and the ways of three kinds of updates."""
    p = np.linspace(0, 1, 51)
    J = 2 * (p[:, None] + p) - 3 * p[:, None] * p - 1
    ax.contourf(p, p, J, levels=np.linspace(-1, 1, 21), cmap="Greys")
    game = exact(driving(), 0.0)  # one step: the discount does not matter, and without one C = 0
    start = [torch.tensor([[0.49, 0.51], [0.5, 0.5]]).double(), torch.full((2, 2), 0.5).double()]
    for label, (color, step) in STEPS.items():
        way = np.array([[pi[0][0, 1].item(), pi[1][0, 1].item()] for pi in path(game, start, step)])
        ax.plot(*way.T, "o-", color=color, markersize=3, linewidth=1.2, label=label)
    ax.set(xlabel="probability that the first driver pulls", ylabel="… the second", aspect="equal")
    ax.set_title("Two drivers: J (dark: 1) and twelve updates", loc="left")


def returns(ax: Axes) -> None:
    """J over the updates of a random game."""
    table = random_game(0, agents=3, states=5, actions=3)
    game = exact(table, 0.9)
    start = [torch.full((table.states, count), 1 / count).double() for count in table.actions]
    for label, (color, step) in STEPS.items():
        J = [expected_return(game, pi) for pi in path(game, start, step)]
        ax.plot(J, "o-", color=color, markersize=3, linewidth=1.2, label=label)
    ax.set(xlabel="updates", ylabel="J")
    ax.set_title("games/random-0", loc="left")


def draw() -> Figure:
    """Both panels."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        drivers(left)
        returns(right)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with matplotlib.rc_context(RC):
        draw().savefig(FOLDER / "exact_updates.svg", metadata={"Date": None})
