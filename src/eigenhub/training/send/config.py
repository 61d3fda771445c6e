# SPDX-License-Identifier: Apache-2.0
"""Settings of Sensitivity Dropout."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eigenhub.files import field_kinds, naming, read_json, write_text


MODES = ("send", "random", "dropout", "ema", "off")
SITES = ("hidden", "mlp", "update")
AGGREGATES = ("mean_of_scores", "score_of_mean")
INDEX_SPACES = ("site", "hidden")
STRATEGIES = ("epoch", "steps")
CONFIG_NAME = "send_config.json"


@dataclass
class SenDConfig:
    r"""How often to look, what to drop and where (arXiv 2410.15460, algorithm 2).

    Args:
        mode (`str`, *optional*, defaults to `"send"`): `"send"`, or a control: `"random"` drops as many indices at random
            at the same times, `"dropout"` is standard dropout at the site, `"ema"` averages the weights, `"off"` only
            tracks.
        rho (`float`, *optional*, defaults to 0.2): share of the indices that is dropped, below 0.9.
        window (`int`, *optional*, defaults to 3): C, checkpoints that variability is measured over.
        refresh_every (`int`, *optional*, defaults to 3): T, checkpoints between two selections.
        site (`str`, *optional*, defaults to `"hidden"`): `"hidden"`, the output of the block (the paper's text), `"mlp"`,
            the inputs of its down projection (the authors' code), or `"update"`, what the block adds to its input.
        layer (`int`, *optional*, defaults to -2): block; -2 is the last but one, whose output is `hidden_states[-2]`.
        aggregate (`str`, *optional*, defaults to `"mean_of_scores"`): mean of the texts' sensitivities, or
            `"score_of_mean"`, sensitivity of the mean embedding. The two choose different sets.
        index_space (`str`, *optional*, defaults to `"site"`): measure where it is dropped; `"hidden"` with site `"mlp"`
            takes indices of the hidden state for those of the MLP, as the authors' code does.
        mask_in_eval (`bool`, *optional*, defaults to `False`): drop in eval mode too.
        rescale (`bool`, *optional*, defaults to `False`): multiply what is kept by 1 / (1 - share dropped).
        track_fraction (`float`, *optional*, defaults to 0.1): share of the training set that is tracked instead.
        track_strategy (`str`, *optional*, defaults to `"epoch"`): a checkpoint is an epoch, or `track_steps` steps.
        track_steps (`int`, *optional*): optimizer steps between two checkpoints, for strategy `"steps"`.
        track_batch_size (`int`, *optional*, defaults to 8): tracked texts in one forward pass.
        seed (`int`, *optional*, defaults to 0): of the split and of random indices.
        stop_loss (`float`, *optional*): stop when the logged loss is below this and the score below `stop_score`.
        stop_score (`float`, *optional*): see `stop_loss`; both or none.
        dropout (`float`, *optional*, defaults to 0.1): rate of mode `"dropout"`.
        ema_decay (`float`, *optional*, defaults to 0.95): weight of the average in mode `"ema"`, per optimizer step.
        blocks (`str`, *optional*): dotted name of the list of blocks, where the search fails.
        down_projection (`str`, *optional*): name inside of the block for site `"mlp"`, where the search fails.
    """

    mode: str = "send"
    rho: float = 0.2
    window: int = 3
    refresh_every: int = 3
    site: str = "hidden"
    layer: int = -2
    aggregate: str = "mean_of_scores"
    index_space: str = "site"
    mask_in_eval: bool = False
    rescale: bool = False
    track_fraction: float = 0.1
    track_strategy: str = "epoch"
    track_steps: int | None = None
    track_batch_size: int = 8
    seed: int = 0
    stop_loss: float | None = None
    stop_score: float | None = None
    dropout: float = 0.1
    ema_decay: float = 0.95
    blocks: str | None = None
    down_projection: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", MODES),
            ("site", SITES),
            ("aggregate", AGGREGATES),
            ("index_space", INDEX_SPACES),
            ("track_strategy", STRATEGIES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, low, high in (
            ("rho", 0.0, 0.9),
            ("track_fraction", 0.0, 1.0),
            ("dropout", 0.0, 1.0),
            ("ema_decay", 0.0, 1.0),
        ):
            if not low < getattr(self, name) < high:
                raise ValueError(f"`{name}` must be above {low:g} and below {high:g}, got {getattr(self, name)}")
        for name, least in (("window", 2), ("refresh_every", 1), ("track_batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        if self.index_space == "hidden" and self.site != "mlp":
            raise ValueError(f"`index_space` 'hidden' is for site 'mlp' only, got site {self.site!r}")
        by_steps = self.track_strategy == "steps"
        if by_steps != (self.track_steps is not None) or (self.track_steps is not None and self.track_steps < 1):
            raise ValueError(
                f"`track_steps` must be at least 1 for strategy 'steps' and left out for 'epoch', got {self.track_steps}"
            )
        if (self.stop_loss is None) != (self.stop_score is None):
            raise ValueError(
                f"`stop_loss` and `stop_score` must be given together, got {self.stop_loss} and {self.stop_score}"
            )

    @property
    def masks(self) -> bool:
        """Whether indices are dropped."""
        return self.mode in ("send", "random")

    def num_dropped(self, size: int) -> int:
        """floor(rho * size), at least one.

        Args:
            size (`int`): indices at the site.
        """
        count = math.floor(self.rho * size + 1e-9)  # 0.3 * 10 is a hair below 3
        if count < 1:
            raise ValueError(f"`rho` must drop an index or more of {size}, got {self.rho}")
        return count

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON takes them."""
        return asdict(self)

    def save(self, folder: str | Path, **more: Any) -> None:
        """Writes `send_config.json`, whole or not at all.

        Args:
            folder (`str` or `Path`): of a model or checkpoint.
            more (`Any`): entries beside the settings, such as the indices that are dropped.
        """
        text = json.dumps({**self.to_dict(), **more}, indent=2, sort_keys=True)
        write_text(Path(folder) / CONFIG_NAME, text + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "SenDConfig":
        """Reads `send_config.json`; entries that are no settings are left out.

        Args:
            folder (`str` or `Path`): of a model or checkpoint.
        """
        path = Path(folder) / CONFIG_NAME
        kinds = field_kinds(cls)
        entries = read_json(path, kinds)
        with naming(path):
            return cls(**{name: entries[name] for name in kinds})
