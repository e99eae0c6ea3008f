"""IPPO, MAPPO, HAPPO and HATRPO on one code path, and MADDPG beside it. Read in this order: registry, rollout,
on_policy, clip, trust_region, advantages, distributions, networks, maddpg, replay_buffer, config (not fast: it is speed
alone). exact is the theory, for finite games whose model is known, and exact_learning the method that follows it."""

from algorithms.config import NUMERICS
from algorithms.fast import matmul_library
from algorithms.registry import KNOWN, METHODS, build, check, settings
from algorithms.rollout import (
    PURPOSES,
    Continuous,
    Diagnostics,
    Discrete,
    Diverged,
    Learner,
    Model,
    Rollout,
    Samples,
    Team,
)
from algorithms.validation import SettingError

__all__ = [
    "KNOWN",
    "METHODS",
    "NUMERICS",
    "PURPOSES",
    "Continuous",
    "Diagnostics",
    "Discrete",
    "Diverged",
    "Learner",
    "Model",
    "Rollout",
    "Samples",
    "SettingError",
    "Team",
    "build",
    "check",
    "matmul_library",
    "settings",
]
