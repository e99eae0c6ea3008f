"""IPPO, MAPPO, HAPPO, HATRPO and MADDPG on one code path. Read in this order: registry, rollout, on_policy, clip,
trust_region, maddpg, replay, returns, networks, layers, categorical, config."""

from algorithms.config import SettingError
from algorithms.registry import METHODS, build, check, settings
from algorithms.rollout import PURPOSES, Continuous, Discrete, Diverged, Learner, Rollout, Row, Team

__all__ = [
    "METHODS",
    "PURPOSES",
    "Continuous",
    "Discrete",
    "Diverged",
    "Learner",
    "Rollout",
    "Row",
    "SettingError",
    "Team",
    "build",
    "check",
    "settings",
]
