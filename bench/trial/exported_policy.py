"""The trained team in this folder: `Policy().act(observations)`. Needs torch and safetensors, and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import layer_norm, linear


class Policy:
    """N agents, each of which acts on what it observes itself."""

    def __init__(self, folder: str | Path = Path(__file__).parent):
        self.config = json.loads((Path(folder) / "config.json").read_text())
        self.weights = load_file(Path(folder) / "model.safetensors")

    @torch.no_grad()
    def act(self, observations: Sequence[Any], masks: Sequence[Any] | None = None) -> list[Tensor]:
        """The deterministic actions of all agents: N x [.., O_i] -> N x [.., A_i].

        Observations are as the environment gives them, one row of numbers for each agent. Continuous actions lie in
        [-1, 1], which stands for the bounds of the action space; discrete ones are indices, one for each component.
        `masks` says which choices are allowed, N x [.., L_i] of bool with all components in a row, None for an agent
        that may choose anything.

        Raises ValueError for another number of agents, or of numbers that one observes.
        """
        if len(observations) != len(self.config["agents"]):
            raise ValueError(f"observations of {len(observations)} agents, not of {len(self.config['agents'])}")
        return [self._action(i, x, None if masks is None else masks[i]) for i, x in enumerate(observations)]

    def _action(self, agent: int, observation: Any, mask: Any = None) -> Tensor:
        about = self.config["agents"][agent]
        y = self.output(agent, observation)
        if about["action"] == "continuous":
            return (torch.tanh(y) if self.config["tanh"] else y).clamp(-1, 1)
        if mask is not None:
            y = y.masked_fill(~torch.as_tensor(mask, dtype=torch.bool), torch.finfo(y.dtype).min)
        return torch.stack([part.argmax(-1) for part in y.split(about["choices"], -1)], dim=-1)

    def output(self, agent: int, observation: Any) -> Tensor:
        """What the actor's last layer gives, means or the logits of all components.  [.., O_i] -> [.., A_i or L_i]"""
        own = f"actors.{self.config['agents'][agent]['actor']}."
        w = {name.removeprefix(own): x for name, x in self.weights.items() if name.startswith(own)}
        x = torch.as_tensor(observation, dtype=torch.float32)
        if x.shape[-1] != (size := self.config["agents"][agent]["observation_size"]):
            raise ValueError(f"agent {agent} observes {size} numbers, not {x.shape[-1]}")
        if self.config["appends_index"]:  # one actor for all agents is told whom it acts for
            index = torch.eye(len(self.config["agents"]))[agent]
            x = torch.cat([x, index.expand(*x.shape[:-1], -1)], dim=-1)
        x = (x - w["normaliser.mean"]) * torch.rsqrt(w["normaliser.var"] + 1e-8)
        x = x.clamp(-self.config["observation_clip"], self.config["observation_clip"])
        *hidden, last = range(0, 3 * len(self.config["hidden_sizes"]) + 1, 3)  # linear, ReLU, layer norm; linear
        for k in hidden:
            x = linear(x, w[f"network.{k}.weight"], w[f"network.{k}.bias"]).relu()
            x = layer_norm(x, x.shape[-1:], w[f"network.{k + 2}.weight"], w[f"network.{k + 2}.bias"])
        return linear(x, w[f"network.{last}.weight"], w[f"network.{last}.bias"])
