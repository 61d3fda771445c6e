# SPDX-License-Identifier: Apache-2.0
"""Differential privacy of whole clients, given by a trusted server: clipped updates, one noise on their sum."""

import dataclasses
import json
import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.flower.gaussian_accounting import gaussian_epsilon, gaussian_noise_multiplier
from eigenhub.federated.recipes import recipe_of
from eigenhub.federated.updates import ClientUpdate
from eigenhub.files import check_entries, naming, read_json, write_text


LEDGER_FILE = "client_privacy.json"


@dataclass(frozen=True)
class ClientDPConfig:
    """Settings of client-level differential privacy.

    Args:
        max_update_norm (`float`): C, to which the change of all tensors of a client's reply together is clipped.
        target_delta (`float`): delta of the guarantee; well below 1 over the number of clients.
        target_epsilon (`float`, *optional*): epsilon that no client exceeds; finds the noise.
        noise_multiplier (`float`, *optional*): noise over C, in place of `target_epsilon`.
        max_participations (`int`, *optional*): rounds in which a client may enter, a hard cap; by default as many as its
            share of all rounds.
        seed (`int`, *optional*): of the noise, for tests; by default it comes from the operating system.

    Raises:
        ValueError: for a value out of range, and unless exactly one of epsilon and noise is given.
    """

    max_update_norm: float
    target_delta: float
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    max_participations: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            raise ValueError(
                f"give `target_epsilon` ({self.target_epsilon}) or `noise_multiplier` ({self.noise_multiplier}), one of them"
            )
        for name in ("max_update_norm", "target_epsilon", "noise_multiplier", "max_participations"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be positive and finite, got {value!r}")
        if not 0 < self.target_delta < 1:
            raise ValueError(f"`target_delta` must lie in (0, 1), got {self.target_delta!r}")


class ClientPrivacy:
    r"""Clips replies, adds the noise, and counts in how many rounds each client has entered.

    A round publishes $B_t + (\sum_k \mathrm{clip}_C(B^k - B_t) + \mathcal{N}(0, z^2 C^2)) / m$ with m the number of clients
    that were asked, so that whoever fails to reply counts as one who changes nothing, and refactors it afterwards. Adding
    or removing one client moves the sum by C at most. A client that enters T rounds has $\mu = \sqrt{T} / z$ Gaussian
    privacy, whose epsilon is exact (arXiv 1805.06530, theorem 8); the random choice of clients is not taken as amplifying.

    Args:
        config (`ClientDPConfig`): clipping, noise, caps.
        federation (`FedSVDConfig`): of the run.

    Raises:
        ValueError: for a method that does not train B alone, weights by size, or clients of different ranks.
    """

    def __init__(self, config: ClientDPConfig, federation: FedSVDConfig) -> None:
        if recipe_of(federation.method).trains != ("B",):
            raise ValueError(f"`client_dp` needs a method that trains B alone, not {federation.method!r}")
        if federation.weighting != "uniform":
            raise ValueError(f"`client_dp` needs `weighting='uniform'`, got {federation.weighting!r}")
        if federation.client_ranks:
            raise ValueError("`client_dp` needs clients of one rank, got `client_ranks`")
        self.config = config
        self.rounds_entered: Counter[str] = Counter()
        self.cap = config.max_participations
        seed = secrets.randbits(63) if config.seed is None else config.seed
        self._generator = torch.Generator().manual_seed(seed)
        self._noise_pending = False

    def plan(self, participations: int) -> None:
        """Set the cap, unless the configuration has one; a second call changes nothing.

        Args:
            participations (`int`): rounds in which a client is asked at most.
        """
        self.cap = self.cap or participations

    @property
    def noise_multiplier(self) -> float:
        """Noise on the sum of the clipped updates, over the clipping norm."""
        if self.config.noise_multiplier is not None:
            return self.config.noise_multiplier
        return gaussian_noise_multiplier(
            float(self.config.target_epsilon or 0), self.cap or 1, self.config.target_delta
        )

    def allowed(self, nodes: Sequence[str]) -> list[str]:
        """Those that have a round left; opens a round in which the noise is still to come.

        Args:
            nodes (`Sequence[str]`): that were drawn.
        """
        self._noise_pending = True
        return [node for node in nodes if self.cap is None or self.rounds_entered[node] < self.cap]

    def protected(self, update: ClientUpdate, state: Mapping[str, Tensor]) -> ClientUpdate:
        """The reply with its change clipped; the first one of a round also carries the noise of the whole round.

        Args:
            update (`ClientUpdate`): as it came.
            state (`Mapping[str, Tensor]`): what was broadcast.
        """
        if any(key not in state or tensor.shape != state[key].shape for key, tensor in update.state.items()):
            return update  # the server says what is wrong with it
        change = {key: tensor.double() - state[key].double() for key, tensor in update.state.items()}
        norm = math.sqrt(sum(float(tensor.square().sum()) for tensor in change.values()))
        factor = min(1.0, self.config.max_update_norm / norm) if norm else 1.0
        spread = self.noise_multiplier * self.config.max_update_norm if self._noise_pending else 0.0
        clipped = {key: state[key].double() + factor * t + spread * self._draw(t) for key, t in sorted(change.items())}
        return dataclasses.replace(update, state=clipped, metrics={})

    def entered(self, node: str) -> None:
        """Note that a reply of [`~ClientPrivacy.protected`] has entered the sum.

        Args:
            node (`str`): whose.
        """
        self._noise_pending = False
        self.rounds_entered[node] += 1

    def epsilon(self) -> float:
        """What the client that has entered most rounds has spent."""
        most = max(self.rounds_entered.values(), default=0)
        return gaussian_epsilon(self.noise_multiplier, most, self.config.target_delta)

    def claim(self) -> str:
        """The guarantee in words."""
        return (
            f"The adapter is ({self.epsilon():.4g}, {self.config.target_delta:g})-differentially private for adding or "
            "removing all rows of one client, towards everyone but the server, which sees the updates. A client is a Flower "
            "node: one that comes back under another id counts as another client."
        )

    def save(self, folder: Path) -> None:
        """Write `client_privacy.json`.

        Args:
            folder (`Path`): that exists.
        """
        settings = {name: value for name, value in dataclasses.asdict(self.config).items() if name != "seed"}
        content: dict[str, Any] = {"claim": self.claim(), "epsilon": self.epsilon(), "config": settings}
        content |= {"noise_multiplier": self.noise_multiplier, "cap": self.cap, "rounds_entered": self.rounds_entered}
        write_text(folder / LEDGER_FILE, json.dumps(content, indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Go on from [`~ClientPrivacy.save`].

        Args:
            folder (`Path`): that holds the file.

        Raises:
            ValueError: if it was written under other settings.
        """
        content = read_json(folder / LEDGER_FILE, {"config": dict, "cap": (int, type(None)), "rounds_entered": dict})
        settings = dataclasses.asdict(self.config)
        if differing := [
            name for name in settings if name != "seed" and content["config"].get(name) != settings[name]
        ]:
            raise ValueError(f"{folder} was written under another `client_dp` (`{differing[0]}`)")
        with naming(folder / LEDGER_FILE):
            check_entries(content["rounds_entered"], dict.fromkeys(content["rounds_entered"], int))
        self.cap, self.rounds_entered = content["cap"], Counter(content["rounds_entered"])

    def _draw(self, like: Tensor) -> Tensor:
        if not self._noise_pending:
            return torch.zeros_like(like)
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float64)
