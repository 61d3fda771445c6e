# SPDX-License-Identifier: Apache-2.0
"""The settings of a federated run."""

import dataclasses
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.recipes import METHOD_NAMES, recipe_of, refactors_in
from eigenhub.files import check_entries, field_kinds, naming, read_json, write_text
from eigenhub.linalg.lowrank import SIGN_RULES


CONFIG_NAME = "fedsvd_config.json"
CHOICES = {
    "method": METHOD_NAMES,
    "init_A": ("keep", "orthonormal"),
    "sign_rule": SIGN_RULES,
    "weighting": ("num_examples", "uniform"),
    "downlink": ("full", "rotation"),
    "client_sampling": ("uniform", "balanced"),
}


@dataclass
class FedSVDConfig:
    """Rounds, clients and method of a federated LoRA run.

    The defaults are those of the FedSVD paper (arXiv 2505.12805) and its released scripts.

    Args:
        method (`str`, *optional*, defaults to `"fedsvd"`): `fedsvd`, `ffa`, `ffa_orth`, `fedavg`, `fedex`, `flexlora`,
            `flora` or `rolora`; see [`aggregate`].
        refactor_every (`int`, *optional*, defaults to 1): rounds between two refactorisations.
        refactor_warmup (`int`, *optional*, defaults to 0): rounds before the first one may come.
        init_A (`str`, *optional*, defaults to `"keep"`): `"keep"` starts from PEFT's A, as published; `"orthonormal"` makes
            its rows orthonormal before the first round, which changes no function while B is zero.
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): see [`refactor_lora`].
        weighting (`str`, *optional*): of clients in the mean, `"num_examples"` or `"uniform"`. By default by examples,
            and uniform under differential privacy, because sizes sent in clear are not protected.
        downlink (`str`, *optional*, defaults to `"full"`): `"rotation"` broadcasts A as an r x r matrix on a basis that
            is sent once.
        train_head (`bool`, *optional*, defaults to `False`): also train and average `modules_to_save`.
        client_fraction (`float`, *optional*, defaults to 0.5): share of clients in a round, in (0, 1].
        client_sampling (`str`, *optional*): `"uniform"` draws clients anew each round; `"balanced"` goes through all of
            them in random order before anyone comes again. By default uniform, balanced under differential privacy.
        num_rounds (`int`, *optional*, defaults to 100): rounds of the run.
        local_steps (`int`, *optional*, defaults to 10): optimizer steps of a client per round.
        local_epochs (`float`, *optional*): passes over the client's data instead of steps.
        min_clients (`int`, *optional*, defaults to 1): quorum: usable replies without which a round stops the run.
        seed (`int`, *optional*, defaults to 42): of the choice of clients and of the order of their data.
        checkpoint_every (`int`, *optional*, defaults to 1): rounds between two saved states.
        eval_every (`int`, *optional*, defaults to 1): rounds between two evaluations, if there is something to evaluate on.
        client_ranks (`dict[str, int]`, *optional*): clients that work with the first so many of the adapter's ranks.
        private_metrics (`bool`, *optional*, defaults to `False`): under differential privacy, let losses and accuracies
            that are computed on private data out all the same.
        dp (`DPConfig`, *optional*): differential privacy; none by default.

    Raises:
        ValueError: for a value out of range, with the values allowed.

    Example:

    ```python
    >>> from eigenhub.federated import FedSVDConfig
    >>> FedSVDConfig(num_rounds=20, init_A="orthonormal").weighting
    'num_examples'
    ```
    """

    method: str = "fedsvd"
    refactor_every: int = 1
    refactor_warmup: int = 0
    init_A: str = "keep"
    sign_rule: str = "largest_positive"
    weighting: str | None = None
    downlink: str = "full"
    train_head: bool = False
    client_fraction: float = 0.5
    client_sampling: str | None = None
    num_rounds: int = 100
    local_steps: int | None = None
    local_epochs: float | None = None
    min_clients: int = 1
    seed: int = 42
    checkpoint_every: int = 1
    eval_every: int = 1
    client_ranks: dict[str, int] | None = None
    private_metrics: bool = False
    dp: DPConfig | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dp, dict):
            self.dp = DPConfig.from_dict(self.dp)
        self.weighting = self.weighting or ("uniform" if self.dp else "num_examples")
        self.client_sampling = self.client_sampling or ("balanced" if self.dp else "uniform")
        if self.local_steps is None and self.local_epochs is None:
            self.local_steps = 10
        self._check_choices()
        self._check_ranges()
        self._check_combinations()

    def _check_choices(self) -> None:
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}; got {value!r}")

    def _check_ranges(self) -> None:
        lowest = {"refactor_every": 1, "refactor_warmup": 0, "num_rounds": 1, "min_clients": 1}
        lowest |= {"checkpoint_every": 1, "eval_every": 1}
        lowest |= {"local_steps": 1} if self.local_steps is not None else {}
        for name, least in lowest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}")
        if not 0 < self.client_fraction <= 1:
            raise ValueError(f"`client_fraction` must be in (0, 1], got {self.client_fraction!r}")
        if self.local_epochs is not None and not self.local_epochs > 0:
            raise ValueError(f"`local_epochs` must be positive, got {self.local_epochs!r}")
        for client, rank in (self.client_ranks or {}).items():
            if not isinstance(rank, int) or rank < 1:
                raise ValueError(f"`client_ranks[{client!r}]` must be at least 1, got {rank!r}")

    def _check_combinations(self) -> None:
        trains = recipe_of(self.method).trains
        if self.local_steps is not None and self.local_epochs is not None:
            raise ValueError(
                f"pass `local_steps` ({self.local_steps}) or `local_epochs` ({self.local_epochs}), not both"
            )
        if self.downlink == "rotation" and trains != ("B",):
            raise ValueError(f"`downlink='rotation'` needs a method that keeps the span of A, not {self.method!r}")
        if self.dp and "AB" in trains:
            # noise on both factors multiplies: the noise of the product would not be what is accounted as harmless
            warnings.warn(
                f"`dp` with `method={self.method!r}`: clients add noise to A as well, so that noise multiplies noise in "
                "the product; fedsvd, ffa and ffa_orth train B alone",
                stacklevel=4,
            )
        if self.dp and self.checkpoint_every != 1:
            raise ValueError(
                f"`checkpoint_every` must be 1 under `dp`, got {self.checkpoint_every}: a round repeated spends twice"
            )
        if self.dp and self.client_ranks and trains != ("B",):
            raise ValueError(f"`client_ranks` under `dp` needs a method that trains B alone, not {self.method!r}")
        if self.dp and self.weighting == "num_examples":
            warnings.warn("`weighting='num_examples'` under `dp`: sizes are sent in clear, unprotected", stacklevel=4)

    def refactors_in(self, round: int) -> bool:
        """Whether the server refactors at the end of a round.

        Args:
            round (`int`): from 1.
        """
        if self.method == "ffa_orth" and self.init_A == "orthonormal":
            return False
        return refactors_in(self.method, round, self.refactor_every, self.refactor_warmup)

    def to_dict(self) -> dict[str, Any]:
        """Every setting as JSON values."""
        return dataclasses.asdict(self) | {"dp": self.dp.to_dict() if self.dp else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FedSVDConfig":
        """The configuration of [`~FedSVDConfig.to_dict`].

        Args:
            values (`dict`): settings by name; those left out get their defaults.

        Raises:
            ValueError: for a name that is no setting, and for a value of another type.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        kinds = field_kinds(cls)
        check_entries(values, {name: kinds[name] for name in values})
        return cls(**values)

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Write `fedsvd_config.json`.

        Args:
            save_directory (`str` or `Path`): folder, made if necessary.

        Returns:
            `Path`: the file.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CONFIG_NAME
        write_text(path, json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n")
        return path

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "FedSVDConfig":
        """Read `fedsvd_config.json`.

        Args:
            folder (`str` or `Path`): a local folder that holds it.
        """
        path = Path(folder) / CONFIG_NAME
        content = read_json(path)
        with naming(path):
            return cls.from_dict(content)
