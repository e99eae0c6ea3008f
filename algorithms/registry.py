"""The table of methods. What a row does not say, all on-policy methods share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from algorithms.clip import clip_step
from algorithms.config import ClipSettings, ExactSettings, MADDPGSettings, OnPolicySettings, TrustRegionSettings
from algorithms.exact_learning import ExactLearning
from algorithms.fast import matmul_library
from algorithms.maddpg import MADDPG
from algorithms.on_policy import Critic, OnPolicy, Step, Update
from algorithms.rollout import Learner, Team
from algorithms.trust_region import trust_region_step
from algorithms.validation import SettingError, strict

Settings = OnPolicySettings | MADDPGSettings | ExactSettings


@dataclass(frozen=True)
class Method:
    """One row of the table: how a learner is made, and its settings."""

    make: Callable[..., Learner]
    settings: type[Settings]
    summary: str
    can_share_actors: bool
    """Whether one actor may serve all agents: in a sequential update it would change before the next agent's turn.
    Where it may, the update is simultaneous, so `order` and `factor_bound` are refused."""
    ablation: bool = False
    """Not one of the methods that are compared: it shows what one choice does, or what the theory says."""
    name: str = ""
    """What suites and messages call it. A method of the user's own gets the name by which it was found."""

    def configure(self, values: Mapping[str, Any]) -> Settings:
        """Its settings, all but `values` at their defaults."""
        matmul_library()  # raises SettingError for an unknown library in the environment variable
        result = strict(self.settings, values)
        if getattr(result, "share_actors", False) and not self.can_share_actors:
            raise SettingError(
                "share_actors",
                f"{self.name} cannot share actors: its update is sequential, and a shared actor would have changed "
                "already when the next agent's turn comes",
            )
        if self.can_share_actors:
            for key, none in (("order", "random"), ("factor_bound", 0.0)):
                if getattr(result, key, none) != none:
                    raise SettingError(key, f"must be {none} for {self.name}, whose agents are updated simultaneously")
        return result

    def build(self, team: Team, settings: Settings, seeds: Mapping[str, int]) -> Learner:
        """A new learner for `team`; `seeds` holds one seed for each of `algorithms.PURPOSES`.

        Raises SettingError for settings of another method, values out of bounds, and what does not suit the team.
        """
        if type(settings) is not self.settings:
            found = type(settings).__name__
            raise SettingError("settings", f"{self.name} takes {self.settings.__name__}, not {found}; see `configure`")
        check(team, self.configure(asdict(settings)))
        return self.make(team, settings, seeds)


def _on_policy(name: str, critic: Critic, update: Update, step: Step, ablation: bool = False) -> Method:
    return Method(
        partial(OnPolicy, critic=critic, update=update, step=step),
        {clip_step: ClipSettings, trust_region_step: TrustRegionSettings}[step],
        f"{critic} critic, {update} update, {step.__name__.replace('_', ' ')}",
        update == "simultaneous",
        ablation,
        name,
    )


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        #           name      critic           update          one actor's step
        _on_policy("ippo", "decentralised", "simultaneous", clip_step),
        _on_policy("mappo", "centralised", "simultaneous", clip_step),
        _on_policy("happo", "centralised", "sequential", clip_step),
        _on_policy("hatrpo", "centralised", "sequential", trust_region_step),
        Method(MADDPG, MADDPGSettings, "off-policy, one central action-value critic per agent", False, name="maddpg"),
        # Ablations: the trust region without the sequential update, the sequential update without a centralised critic.
        _on_policy("matrpo", "centralised", "simultaneous", trust_region_step, ablation=True),
        _on_policy("haippo", "decentralised", "sequential", clip_step, ablation=True),
    )
}
EXACT = Method(ExactLearning, ExactSettings, "exact multi-agent trust-region learning", False, True, "exact")
"""The theory itself, which needs a task whose model is known."""
KNOWN: Mapping[str, Method] = {**METHODS, EXACT.name: EXACT}


def settings(name: str, values: Mapping[str, Any]) -> Settings:
    """The settings of method `name`, all but `values` at their defaults."""
    return _row(name).configure(values)


def build(name: str, team: Team, config: Settings, seeds: Mapping[str, int]) -> Learner:
    """A new learner of method `name`; see `Method.build`."""
    return _row(name).build(team, config, seeds)


def _row(name: str) -> Method:
    if not isinstance(name, str) or name not in KNOWN:
        raise SettingError("algorithm", f"unknown algorithm {name!r}; valid: {', '.join(KNOWN)}")
    return KNOWN[name]


def check(team: Team, config: Settings) -> None:
    """Refuse settings that do not suit a team or each other."""
    if isinstance(config, ExactSettings) and team.model is None:
        raise SettingError("algorithm", "exact needs a task whose model is known: a game, but not games/ridge")
    if isinstance(config, MADDPGSettings):
        rows = config.buffer_size // config.envs
        if rows < 1:
            raise SettingError("buffer_size", f"{config.buffer_size} is out of range: must be at least envs")
        if config.n_step > rows:
            raise SettingError("n_step", f"{config.n_step} is out of range: buffer_size / envs holds {rows} steps")
    samples = config.envs * config.rollout_length * (team.size if getattr(config, "share_actors", False) else 1)
    for key in ("actor_minibatches", "critic_minibatches"):
        if getattr(config, key, 1) > samples:
            raise SettingError(key, f"{getattr(config, key)} is out of range: a rollout holds {samples} samples")
    if getattr(config, "share_actors", False) == "without_index" and team.observes_id:
        raise SettingError("share_actors", "without_index needs agents whose observations do not end with their index")
    if getattr(config, "share_actors", False):
        masked = [" masked" if has else "" for has in team.has_mask] or [""] * team.size
        spaces = {*zip(team.observation_sizes, team.action_spaces, masked, strict=True)}
        if len(spaces) > 1:
            raise SettingError(
                "share_actors",
                "sharing needs agents with equal observation sizes, action spaces and masks; these have "
                + ", ".join(sorted(f"{size}/{space}{has}" for size, space, has in spaces)),
            )
