"""The model card of an exported team: a README.md with the head that Hugging Face's hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.store.provenance import commit_in_words
from bench.suite.yaml12 import dump

OF_POLICY = {"best": "absolute", "last": "final"}
"""Policy -> the kind of records that it played."""
TEXT = """\
# {algorithm} on {task}

The team of {agents} agents that the trial `{algorithm}`, seed {seed}, of the suite `{suite}` trained with method
`{method}` in {steps:,} environment steps. These are the weights of its {policy} policy{rounded}.

## Returns

Undiscounted sums of the team reward over an episode, deterministic actions, fresh episodes.

{table}

Standard deviation and range are over episodes of this one trial. They say nothing about other seeds of training.

## Use

`policy.py` needs torch and safetensors.

```python
from policy import Policy

policy = Policy()  # of the folder in which policy.py lies
actions = policy.act(observations)
```

`observations` are {agents} rows of numbers, or arrays `[.., O_i]`, one for each agent: {sizes} numbers. They are not
normalised: the running mean and variance of training are part of the weights, and frozen. {actions}

The task is `{name}` with options `{options}`, as the benchmark that trained the team makes it; other versions of the
environment observe otherwise.

## Provenance

| what | value |
|---|---|
{provenance}

`config.json` has all settings, the versions and the machine.
"""


class Returns(NamedTuple):
    """Of a policy's fresh episodes: their mean, standard deviation and number; in units of the return."""

    mean: float
    deviation: float
    """0 of a single episode."""
    least: float
    most: float
    episodes: int


def returns(records: pd.DataFrame) -> dict[str, Returns]:
    """Kind -> the returns of the fresh episodes: `final` of the last policy, `absolute` of the best."""
    found = {}
    for kind in OF_POLICY.values():
        values = records.loc[records["kind"] == kind, "episode_return"].to_numpy(np.float64)
        deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        found[kind] = Returns(float(values.mean()), deviation, float(values.min()), float(values.max()), len(values))
    return found


def text(config: Mapping[str, Any], found: Mapping[str, Returns]) -> str:
    """The README.md."""
    trial, source, agents = config["trial"], config["provenance"], config["agents"]
    facts = {
        "commit": commit_in_words(source),
        "versions": ", ".join(f"{name} {version}" for name, version in source.get("versions", {}).items()),
        "processor": source.get("machine", {}).get("cpu"),
        "config hash": trial["config_hash"],
        "trial": f"suite {trial['suite']}, task {trial['task']}, algorithm {trial['algorithm']}, seed {trial['seed']}",
    }
    body = TEXT.format(
        algorithm=config["algorithm"],
        task=config["task"]["label"],
        name=config["task"]["name"],
        options=config["task"]["options"],
        agents=len(agents),
        seed=trial["seed"],
        suite=trial["suite"],
        method=config["method"],
        steps=config["steps"],
        policy=config["policy"],
        rounded=f", rounded to {config['rounded_to']} after the episodes below" if config["rounded_to"] else "",
        table=_table(found),
        sizes=", ".join(str(agent["observation_size"]) for agent in agents),
        actions=_actions(agents),
        provenance="\n".join(f"| {what} | {_cell(value)} |" for what, value in facts.items()),
    )
    head = dump(_head(config, found), allow_unicode=True, width=1000)
    return f"---\n{head}---\n\n{body}"


def _head(config: Mapping[str, Any], found: Mapping[str, Returns]) -> dict[str, Any]:
    """The metadata of the hub, in the form that it has for reinforcement learning."""
    own, label = found[OF_POLICY[config["policy"]]], config["task"]["label"]
    return {
        "library_name": "pytorch",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "multi-agent-reinforcement-learning", config["method"], label],
        "model-index": [
            {
                "name": config["algorithm"],
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                        "dataset": {"type": label, "name": label},
                        "metrics": [
                            {
                                "type": "mean_reward",
                                "name": "mean_reward",
                                # The mean and standard deviation over episodes, as others write it there.
                                "value": f"{own.mean:.2f} +/- {own.deviation:.2f}",
                            }
                        ],
                    }
                ],
            }
        ],
    }


def _table(found: Mapping[str, Returns]) -> str:
    rows = ["| policy | mean return | standard deviation | least to greatest | episodes |", "|---|---:|---:|---:|---:|"]
    for policy, kind in OF_POLICY.items():
        own = found[kind]
        spread = f"{own.deviation:,.2f} | {own.least:,.2f} to {own.most:,.2f}"
        rows.append(f"| {policy} (`{kind}`) | {own.mean:,.2f} | {spread} | {own.episodes} |")
    return "\n".join(rows)


def _actions(agents: list[dict[str, Any]]) -> str:
    """What the actions are, in a sentence or two."""
    kinds = {agent["action"] for agent in agents}
    said = []
    if "continuous" in kinds:
        said.append("Continuous actions lie in [-1, 1], which stands for the bounds of the action space.")
    if "discrete" in kinds:
        said.append(
            "Discrete actions are indices, one for each component; `act` takes action masks as its second argument."
        )
    return " ".join(said)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")
