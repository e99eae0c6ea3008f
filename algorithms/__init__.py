"""IPPO, MAPPO, HAPPO and HATRPO as one training loop, and MADDPG.

Read the files in this order: registry, rollout, on_policy, clip, trust_region, advantages, distributions, networks,
maddpg, replay_buffer, config. validation only checks settings and fast only makes training faster: both can be skipped.
exact is the theory, for finite games with a known model, and exact_learning the method that follows it.
"""

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
