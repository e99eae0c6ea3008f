"""The cost of a run, measured on this machine before it starts: seconds, memory, disk."""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from algorithms import Diverged, SettingError
from algorithms.config import MADDPGSettings, OnPolicySettings
from algorithms.registry import Settings
from algorithms.replay_buffer import transition_bytes
from bench.envs.errors import EnvError, error_line_with_place, lacks_memory
from bench.envs.random_play import random_actions
from bench.store.trials import FRESH_FACTOR
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.tasks.checker import first_failure
from bench.tasks.registry import Task, make, team
from bench.trial.collect import Collector
from bench.trial.link import Link
from bench.trial.setup import learner_and_batch, prepare_process
from bench.trial.worker import Stopped

PROBE_STEPS = 10
"""Length T of the rollouts that are timed first."""
PROBE_SECONDS = 1.0
"""Rollouts as long as the trial's are timed then, or as long as take so many seconds with their update: an update on
few samples costs more for each of them."""
LEAST_SECONDS = 0.1
"""Rollouts and updates are timed again until they have taken so many seconds."""

PROBE_EPISODES = 4
"""Episodes from which the episode length is estimated if the task has no limit."""
CHECKPOINT_BYTES = 2e6
"""About what a checkpoint takes apart from the replay buffer."""
POLICY_BYTES = 1e6
"""About what the networks of the best and of the last policy take, with the description of the trial."""
ENDLESS_STEPS, ENDLESS_SECONDS = 10_000, 30.0
"""Steps and seconds after which such an episode is considered endless."""


@dataclass(frozen=True)
class Cost:
    """The cost of one trial."""

    seconds: float
    memory: float
    """Peak memory in bytes."""
    disk: float
    """Bytes on disk that stay."""
    checkpoint: float
    """Bytes on disk while it runs."""
    evaluation: float = 0.0
    """Seconds that one evaluation of the grid takes."""
    share: float = 1.0
    """The share of the steps that are still to be made."""

    @property
    def seconds_left(self) -> float:
        """Seconds for the steps still to be made."""
        return self.seconds * self.share


def refuse_replays_beyond_memory(trials: Sequence[Trial], jobs: int) -> None:
    """Raise SuiteError if the `jobs` largest replay buffers do not fit into memory together; 0: elsewhere."""
    largest = sorted(trials, key=_replay_bytes, reverse=True)[:jobs]
    needed, memory = sum(map(_replay_bytes, largest)), machine_memory()
    if needed > memory:
        raise SuiteError(
            f"{largest[0].name}: its replay and the copy that a checkpoint takes of it need "
            f"{_replay_bytes(largest[0]) / 1e9:.1f} GB, the {len(largest)} largest at once {needed / 1e9:.1f} GB, and "
            f"this machine has {memory / 1e9:.1f} GB; lower buffer_size or --jobs"
        )


def machine_memory() -> float:
    """Bytes of memory of this machine; infinity if the system does not report it."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def costs(
    trials: Sequence[Trial], env_threads: int = 1, fresh_episodes: bool = True, link: Link | None = None
) -> dict[Trial, Cost]:
    """The cost of each trial, with or without its final episodes.

    Trials that differ only in their seed are measured once.
    """
    link, pairings = link or Link(), dict[str, Trial]()
    for trial in trials:
        pairings.setdefault(trial.config_hash(), trial)
    measured: dict[str, Cost] = {}
    with closing(_announced(list(pairings.values()))) as announced:
        for trial in announced:
            link.at(f"{trial.name}: measuring its cost")
            try:
                if wrong := first_failure(trial.task):
                    raise EnvError(wrong)
                measured[trial.config_hash()] = _cost(trial, env_threads, fresh_episodes, link)
            except EnvError as error:
                raise SuiteError(f"{trial.name}: {error}; `python -m bench.check` looks closer") from error
            except SettingError as error:
                raise SuiteError(f"{trial.name}: {error.key}: {error}") from error
            except SuiteError:
                raise
            except Stopped:
                raise
            except BaseException as error:  # from the user's code, or for lack of memory
                if not lacks_memory(error):
                    raise SuiteError(f"{trial.name}: {error_line_with_place(error)}") from error
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise SuiteError(f"{trial.name}: cannot run on this machine: {reason}") from error
    return {trial: measured[trial.config_hash()] for trial in trials}


def _announced(pairings: Sequence[Trial]) -> Generator[Trial]:
    """The pairings one by one; if there are several, with a line on stderr that counts them on a terminal."""
    console = Console(stderr=True)
    line = f"Measuring what {len(pairings)} pairings will cost on this machine ..."
    if len(pairings) < 2:
        yield from pairings
    elif not console.is_terminal:
        print(line, file=sys.stderr, flush=True)
        yield from pairings
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for done, pairing in enumerate(pairings):
                live.update(Text(f"{line} {done} done"), refresh=True)
                yield pairing


def _cost(trial: Trial, env_threads: int, fresh_episodes: bool, link: Link) -> Cost:
    prepare_process(trial.learner_threads)
    collecting, updating = _seconds_per_step(trial, env_threads, link)
    grid, policies_at_end = trial.steps // trial.every + 1, 2 if fresh_episodes else 0
    evaluations = grid + policies_at_end * FRESH_FACTOR
    length = trial.task.episode_length or longest_episode(trial.task)
    # at most: some episodes end early, and a last policy that is the best one is played once
    episode_steps = evaluations * trial.episodes * length
    learning_steps = max(trial.steps - getattr(trial.settings, "warmup_steps", 0), 0)
    data = data_bytes(trial)
    updates = trial.steps / (trial.settings.envs * trial.settings.rollout_length) * (team(trial.task).size + 1)
    checkpoint = _replay_bytes(trial) / 2 + CHECKPOINT_BYTES
    measuring = _improvement_episodes(trial) * length
    return Cost(
        seconds=(trial.steps + episode_steps + measuring) * collecting + learning_steps * updating,
        memory=_resident_bytes() + data,
        disk=updates * 150 + evaluations * trial.episodes * 20 + POLICY_BYTES + trial.keep * checkpoint,
        checkpoint=checkpoint,
        evaluation=trial.episodes * length * collecting,
    )


def _improvement_episodes(trial: Trial) -> int:
    """Episodes that are played to measure what updates do to the return: by each joint policy around an update.

    In games that is computed instead, which takes hardly any time.
    """
    sizes, settings = team(trial.task), trial.settings
    if not trial.improvement_every or trial.measures_exactly:
        return 0
    updates = trial.steps // (settings.envs * settings.rollout_length)
    stepped = sizes.size if isinstance(settings, OnPolicySettings) and not settings.share_actors else 1
    return updates // trial.improvement_every * (stepped + 1) * trial.improvement_episodes


@cache
def longest_episode(task: Task) -> int:
    """The steps of the longest of some episodes of random actions; refuses a task whose episodes do not end."""
    random, live, start = np.random.default_rng(0), PROBE_EPISODES, time.perf_counter()
    with closing(make(task, np.random.SeedSequence(0).spawn(PROBE_EPISODES), auto_reset=False)) as batch:
        for step in range(1, ENDLESS_STEPS + 1):
            batch.step(random_actions(batch, random))
            live -= len(batch.ended)
            if not live:
                return step
            if time.perf_counter() - start > ENDLESS_SECONDS:
                break
    raise SuiteError(
        f"{task.label}: an episode of random actions had not ended after {step} steps; give the task an episode_length"
    )


def _seconds_per_step(trial: Trial, env_threads: int, link: Link) -> tuple[float, float]:
    """Seconds of collecting and of learning per environment step."""
    length = min(trial.settings.rollout_length, PROBE_STEPS)
    first = _timed(trial, length, env_threads, link)
    longer = min(trial.settings.rollout_length, int(PROBE_SECONDS / (sum(first) * trial.settings.envs)))
    return _timed(trial, longer, env_threads, link) if longer > length else first


def _timed(trial: Trial, length: int, env_threads: int, link: Link) -> tuple[float, float]:
    """Seconds of collecting and of learning per step, from rollouts of `length` steps after one for warm-up."""
    settings = _shortened(trial.settings, length)
    learner, made = learner_and_batch(replace(trial, settings=settings), env_threads)
    collecting = updating = 0.0
    steps = 0
    with closing(made) as batch:
        collector = Collector(batch, length, link.beat)
        with suppress(Diverged):  # the trial will report it
            learner.update(collector.collect(learner))
        while collecting + updating < LEAST_SECONDS:
            start = time.perf_counter()
            rollout = collector.collect(learner)
            collected = time.perf_counter()
            with suppress(Diverged):
                learner.update(rollout)
            collecting += collected - start
            updating += time.perf_counter() - collected
            steps += length * settings.envs
    return collecting / steps, updating / steps


def _shortened(settings: Settings, length: int) -> Settings:
    """The settings with rollouts of so many steps, and others reduced to fit such a rollout."""
    samples = length * settings.envs
    limits = {"n_step": length, "actor_minibatches": samples, "critic_minibatches": samples}
    fitting = {key: min(getattr(settings, key), most) for key, most in limits.items() if hasattr(settings, key)}
    if isinstance(settings, MADDPGSettings):
        fitting |= {"warmup_steps": 0, "buffer_size": 2 * samples}
    return replace(settings, rollout_length=length, **fitting)


def data_bytes(trial: Trial) -> float:
    """Memory that grows with the settings: the replay buffer, or a rollout and the activations of its gradient."""
    sizes, settings = team(trial.task), trial.settings
    features = sum(sizes.observation_sizes) + sizes.state_size
    if isinstance(settings, MADDPGSettings):
        return _replay_bytes(trial)
    return (
        4.0 * settings.envs * settings.rollout_length * (3 * features + 8 * sum(getattr(settings, "hidden_sizes", ())))
    )


def _replay_bytes(trial: Trial) -> float:
    """Twice the full replay buffer of a trial, because a checkpoint copies it; 0 for on-policy methods."""
    settings = trial.settings
    if not isinstance(settings, MADDPGSettings):
        return 0.0
    return 2.0 * min(settings.buffer_size, trial.steps) * transition_bytes(team(trial.task))


def _resident_bytes() -> float:
    """The peak memory of this process, which has by then done the work of a worker on little data."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1.0 if sys.platform == "darwin" else 1024.0)
