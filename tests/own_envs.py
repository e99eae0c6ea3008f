"""Parallel environments for the tests: two that keep every rule, and some that break one rule each."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

Answers = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]
TIMER = 12
"""Steps of an episode."""


class Plain(ParallelEnv[str, Any, Any]):
    """Two agents on a line; each sees itself and the time, is paid its place, and moves by its own action."""

    metadata: ClassVar[dict[str, Any]] = {"name": "plain"}
    names: tuple[str, ...] = ("a", "b")

    def __init__(self, size: int = 2, timer: int = TIMER):
        self.possible_agents = list(self.names)
        self.size, self.timer = size, timer
        self.seen = {name: self.sees(name) for name in self.possible_agents}
        self.done = {name: self.acts(name) for name in self.possible_agents}

    def sees(self, name: str) -> spaces.Space[Any]:
        return spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def acts(self, name: str) -> spaces.Space[Any]:
        return spaces.Box(-1.0, 3.0, (1,), np.float32)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.seen[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.done[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.time = self.possible_agents[:], 0
        self.random = np.random.default_rng(seed)
        self.x = dict(zip(self.agents, self.random.normal(size=len(self.agents)), strict=True))
        return {name: self.observe(name) for name in self.agents}, {name: self.info(name) for name in self.agents}

    def observe(self, name: str) -> Any:
        return np.full(self.size, self.x[name] + self.time, np.float32)

    def info(self, name: str) -> dict[str, Any]:
        return {}

    def move(self, name: str, action: Any) -> None:
        self.x[name] += float(np.sum(action)) + self.random.normal()

    def reward(self, name: str) -> Any:
        return self.x[name]

    def leaving(self) -> dict[str, str]:
        """Who goes at this step, and how."""
        return dict.fromkeys(self.agents, "truncated" if self.time == self.timer else "")

    def step(self, actions: dict[str, Any]) -> Answers:
        self.time += 1
        acted = self.agents
        for name in acted:
            self.move(name, actions[name])
        how = self.leaving()
        self.agents = [name for name in acted if not how[name]]
        return (
            {name: self.observe(name) for name in acted},
            {name: self.reward(name) for name in acted},
            {name: how[name] == "terminated" for name in acted},
            {name: how[name] == "truncated" for name in acted},
            {name: self.info(name) for name in acted},
        )


class Early(Plain):
    """Legal: `a` dies at the fourth step, `b` is cut off at the end."""

    def leaving(self) -> dict[str, str]:
        return super().leaving() | ({"a": "terminated"} if self.time == 4 and "a" in self.agents else {})


class Choosing(Plain):
    """Legal: `a` chooses from three, not what it chose last, `b` from pairs without a mask."""

    def acts(self, name: str) -> spaces.Space[Any]:
        return spaces.Discrete(3, start=5) if name == "a" else spaces.MultiDiscrete([2, 3])

    def sees(self, name: str) -> spaces.Space[Any]:
        plain = super().sees(name)
        return spaces.Dict(observation=plain, action_mask=spaces.MultiBinary(3)) if name == "a" else plain

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.last = 5
        return super().reset(seed)

    def observe(self, name: str) -> Any:
        plain = super().observe(name)
        return {"observation": plain, "action_mask": self.mask()} if name == "a" else plain

    def mask(self) -> Any:
        return np.array([k + 5 != self.last for k in range(3)], np.int8)

    def move(self, name: str, action: Any) -> None:
        if name == "a":
            assert action != self.last, "a forbidden choice"
            self.last = action
        super().move(name, action)


class Mixed(Choosing):
    """Legal: beside them `c` acts in an interval."""

    names = ("a", "b", "c")

    def acts(self, name: str) -> spaces.Space[Any]:
        return spaces.Box(-1.0, 3.0, (2,), np.float32) if name == "c" else super().acts(name)


class Drawn(Plain):
    """Draws itself twice as wide as high, red on the left and blue on the right."""

    metadata: ClassVar[dict[str, Any]] = {"name": "drawn", "render_fps": 60}

    def __init__(self, size: int = 2, render_mode: str | None = None):
        super().__init__(size)
        self.render_mode = render_mode

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        picture = np.zeros((10, 20, 3), np.uint8)
        picture[:, :10, 0] = picture[:, 10:, 2] = 255
        return picture


class Named(Plain):
    """Legal: takes a word."""

    def __init__(self, word: str):
        super().__init__()


class Shaped(Plain):
    """Legal: takes a list."""

    def __init__(self, shape: list[int]):
        super().__init__(sum(shape))


# Each of these is broken.


class WrongShape(Plain):
    def observe(self, name: str) -> Any:
        return super().observe(name)[: 1 if self.time == 3 else None]


class WrongDtype(Plain):
    def observe(self, name: str) -> Any:
        return super().observe(name).astype(np.float64)


class OutOfBounds(Plain):
    def sees(self, name: str) -> spaces.Space[Any]:
        return spaces.Box(-0.01, 0.01, (self.size,), np.float32)


class NoObservation(Plain):
    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        answers[0].pop("b")
        return answers


class NoReward(Plain):
    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        answers[1].pop("b")
        return answers


class NoTermination(Plain):
    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        answers[2].pop("b")
        return answers


class FourAnswers(Plain):
    def step(self, actions: dict[str, Any]) -> Any:
        return super().step(actions)[:4]


class NaNObservation(Plain):
    def observe(self, name: str) -> Any:
        return super().observe(name) * (np.nan if self.time == 5 and name == "b" else 1)


class NaNReward(Plain):
    def reward(self, name: str) -> Any:
        return np.nan if self.time == 5 and name == "b" else 0.0


class ArrayReward(Plain):
    def reward(self, name: str) -> Any:
        return np.zeros(1)


CHANCE = np.random.default_rng()


class Chance(Plain):
    """Dice of its own from the third step on."""

    def move(self, name: str, action: Any) -> None:
        self.x[name] += CHANCE.normal() * (self.time > 2)


class SeedIgnored(Plain):
    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return super().reset(int(CHANCE.integers(1000)))


class Back(Early):
    """`a` is there again two steps after it died."""

    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        if self.time == 6:
            self.agents = ["a", "b"]
            answers[0]["a"] = self.observe("a")
            answers[4]["a"] = {}
        return answers


class Stranger(Plain):
    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        if self.time == 3:
            self.agents = ["a", "b", "c"]
            self.x["c"] = 0.0
            answers[0]["c"] = self.observe("c")
        return answers


class Silent(Plain):
    """`a` is gone without a word."""

    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        self.agents = [name for name in self.agents if name == "b" or self.time < 3]
        return answers


class Endless(Plain):
    def leaving(self) -> dict[str, str]:
        return dict.fromkeys(self.agents, "")


class NothingAllowed(Choosing):
    def mask(self) -> Any:
        return super().mask() * (self.time != 3)


class ShortMask(Choosing):
    def mask(self) -> Any:
        return super().mask()[:2]


class Unbounded(Plain):
    def acts(self, name: str) -> spaces.Space[Any]:
        return spaces.Box(-np.inf, np.inf, (1,), np.float32)


class NewNames(Plain):
    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = super().reset(seed)
        self.possible_agents = ["a", "b", "c"]
        return answer


class BrokenState(Plain):
    def state(self) -> Any:
        return np.concatenate([self.observe(name) for name in self.agents])


class NothingSeen(Plain):
    def __init__(self) -> None:
        super().__init__(size=0)


class LargeReward(Plain):
    def reward(self, name: str) -> Any:
        return 1e300 if self.time == 5 and name == "b" else 0.0


class LargeObservation(Plain):
    def observe(self, name: str) -> Any:
        return super().observe(name) * np.float32(1e30 if self.time == 5 and name == "b" else 1)


class HalfMask(Choosing):
    def mask(self) -> Any:
        return np.array([0.5, 1.0, -1.0])


class ListObservation(Plain):
    def observe(self, name: str) -> Any:
        return [1.0, 2.0]


class NoInfos(Plain):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed)[0]


class NoInfo(Plain):
    def info(self, name: str) -> Any:
        return None


class NoReset(Plain):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        raise ValueError("no start")


class Raising(Plain):
    def move(self, name: str, action: Any) -> None:
        if self.time == 9:
            raise KeyError("nine")
        super().move(name, action)


class Exiting(Plain):
    def move(self, name: str, action: Any) -> None:
        if self.time == 9:
            raise SystemExit(3)
        super().move(name, action)


class Pet:
    """No ParallelEnv at all."""


def fails(size: int) -> Plain:
    raise RuntimeError("no\nluck")


class SmallIntegers(Plain):
    """Legal: rewards whose sum does not fit into their own type."""

    def reward(self, name: str) -> Any:
        return np.int8(100)


class Half(Plain):
    """Legal: rewards of half precision."""

    def reward(self, name: str) -> Any:
        return np.float16(30000)


class Opposed(Plain):
    """Legal, and no cooperative task: what `a` gains `b` loses."""

    def reward(self, name: str) -> Any:
        return self.x["a"] if name == "a" else -self.x["a"]


class DictState(Plain):
    """Legal: a state in parts."""

    def state(self) -> Any:
        return {"time": np.float32(self.time), "places": (np.array([*self.x.values()], np.float32), [1, 2])}


class MistakenState(Plain):
    def state(self) -> Any:
        return self.y


class WordState(Plain):
    def state(self) -> Any:
        return {"word": "north"}


class AttributeState(Plain):
    """Legal: keeps something that happens to be called state."""

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.state: Any = {"a": 3}
        return super().reset(seed)


class Stays(Early):
    """`a` dies and stays in the list."""

    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        self.agents = ["a", "b"] if self.agents else []
        return answers


class Fewer(Plain):
    """From the second episode on `a` is missing."""

    episodes = 0

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        answers = super().reset(seed)
        self.episodes += 1
        if self.episodes > 2:
            self.agents = ["b"]
        return answers


class LateInfo(Plain):
    """Masks in infos, which those who are gone do not get."""

    def acts(self, name: str) -> spaces.Space[Any]:
        return spaces.Discrete(3)

    def info(self, name: str) -> dict[str, Any]:
        return {"action_mask": np.ones(3, np.int8)} if self.time < self.timer else {}


class Shared(Early):
    """Has one list for all agents and those that are there, from which `a` goes for good."""

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        answers = super().reset(seed)
        self.agents = self.possible_agents
        return answers

    def step(self, actions: dict[str, Any]) -> Answers:
        shared, answers = self.agents, super().step(actions)
        if self.agents:
            shared[:] = self.agents
            self.agents = shared
        return answers


class Twice(Early):
    """When `a` dies, `b` stands in its place too."""

    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        self.agents = ["b", "b"] if self.agents == ["b"] else self.agents
        return answers


class Defaulted(Plain):
    """Rewards of a dict that has a default, which is what `b` would get."""

    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        answers[1].pop("b")
        return answers[0], defaultdict(float, answers[1]), *answers[2:]


class Cancelling(Plain):
    """Rewards beyond what can be calculated with, whose mean is 0."""

    def reward(self, name: str) -> Any:
        return 2e18 if name == "a" else -2e18


class TextReward(Plain):
    def reward(self, name: str) -> Any:
        return "1.0"


class NoFlag(Plain):
    """Neither terminated nor not."""

    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        answers[2]["b"] = None
        return answers


class InfoOfSome(Plain):
    def step(self, actions: dict[str, Any]) -> Answers:
        answers = super().step(actions)
        answers[4].pop("b")
        return answers


class NoneState(Plain):
    def state(self) -> Any:
        return None


class EmptyState(Plain):
    def state(self) -> Any:
        return {"x": np.zeros(0)}


class Opening(Plain):
    """Legal: cannot be closed."""

    def close(self) -> None:
        raise OSError("stuck")


class Emptied(Plain):
    """Legal: empties the list that it had in `agents`, at its next step."""

    def step(self, actions: dict[str, Any]) -> Answers:
        before, answers = self.agents, super().step(actions)
        before.clear()
        return answers


class Length(Plain):
    """Legal: its own argument is called as an option of the benchmark."""

    def __init__(self, episode_length: int):
        super().__init__(timer=episode_length)


class Counted(Plain):
    """Legal: counts how many of it are open."""

    open = 0
    fails_at = 0

    def __init__(self) -> None:
        super().__init__()
        if Counted.open + 1 == Counted.fails_at:
            raise RuntimeError("one too many")
        Counted.open += 1

    def close(self) -> None:
        Counted.open -= 1
