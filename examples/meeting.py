"""An environment of your own: robots on a line are to meet."""

import numpy as np
from gymnasium.spaces import Box
from pettingzoo import ParallelEnv


class Meeting(ParallelEnv):
    """All robots pay for the distance between the outermost two."""

    metadata = {"name": "meeting"}

    def __init__(self, robots=2, steps=50):
        self.steps = steps
        self.possible_agents = [f"robot_{i}" for i in range(robots)]
        self.observations = Box(-np.inf, np.inf, (robots,), np.float32)
        self.actions = Box(-0.1, 0.1, (1,), np.float32)

    def observation_space(self, agent):
        return self.observations

    def action_space(self, agent):
        return self.actions

    def reset(self, seed=None, options=None):
        self.agents, self.time = self.possible_agents[:], 0
        self.x = np.random.default_rng(seed).uniform(-1, 1, len(self.agents))
        return self.observe(), {agent: {} for agent in self.agents}

    def step(self, actions):
        agents, self.time = self.agents, self.time + 1
        self.x += [actions[agent][0] for agent in agents]
        rewards = dict.fromkeys(agents, -float(np.ptp(self.x)))
        terminations = dict.fromkeys(agents, False)
        truncations = dict.fromkeys(agents, self.time == self.steps)
        self.agents = [] if self.time == self.steps else agents
        return self.observe(), rewards, terminations, truncations, {agent: {} for agent in agents}

    def observe(self):
        """Each robot observes its own position first, then those of the others."""
        return {agent: np.roll(self.x, -i).astype(np.float32) for i, agent in enumerate(self.possible_agents)}
