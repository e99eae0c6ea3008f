"""Environments that take their process with them, in every process but the one whose id is `spared`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

EPISODE = 10


class OwnError(BaseException):
    """What `except Exception` does not see."""


class Spared(ParallelEnv[str, Any, Any]):
    """Two agents, ten steps; in a process that is not spared, `end` happens at the third step."""

    metadata: ClassVar[dict[str, Any]] = {"name": "Spared"}

    def __init__(self, spared: int = 0):
        self.possible_agents = ["a", "b"]
        self.deadly = os.getpid() != spared

    def observation_space(self, agent: str) -> Box:
        return Box(-9, 9, (2,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.time = self.possible_agents[:], 0
        self.seen = np.random.default_rng(seed).uniform(-1, 1, 2).astype(np.float32)
        return dict.fromkeys(self.agents, self.seen), {agent: {} for agent in self.agents}

    def step(self, actions: Any) -> Any:
        agents, self.time = self.agents, self.time + 1
        if self.deadly and self.time == 3:
            self.end()
        over = self.time == EPISODE
        self.agents = [] if over else agents
        flags = dict.fromkeys(agents, over)
        rewards = {agent: float(actions[agent]) for agent in agents}
        return dict.fromkeys(agents, self.seen), rewards, dict.fromkeys(agents, False), flags, {a: {} for a in agents}

    def end(self) -> None:
        """Nothing happens."""

    def close(self) -> None:
        """There is nothing to close."""


class Exits(Spared):
    def end(self) -> None:
        os._exit(0)


class RaisesItsOwn(Spared):
    def end(self) -> None:
        raise OwnError("gone")


class RaisesGeneratorExit(Spared):
    def end(self) -> None:
        raise GeneratorExit


class Interrupts(Spared):
    def end(self) -> None:
        raise KeyboardInterrupt


class Hangs(Spared):
    def end(self) -> None:
        time.sleep(1000)


class Deaf(Spared):
    """Does not heed a request to end, as code that never returns from C."""

    def end(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)


class Warned(Spared):
    """Is sent what Slurm sends to all processes of a job that is about to end."""

    def end(self) -> None:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)


class Eats(Spared):
    def end(self) -> None:
        self.food = np.ones(10**8)  # 0.8 GB in each environment
        time.sleep(1000)
