# SPDX-License-Identifier: Apache-2.0
"""The protocol of one model: what was seen, what is dropped, and when that changes. It lives on the model."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from eigenhub.metrics.decoder_blocks import base_model_of, block_at
from eigenhub.training.send.average import WeightAverage
from eigenhub.training.send.config import SenDConfig
from eigenhub.training.send.gate import ActivationGate
from eigenhub.training.send.sensitivity import SensitivityTracker
from eigenhub.training.send.sites import down_projection, hidden_size, input_size
from eigenhub.training.send.state_files import read_state, write_state
from eigenhub.training.send.tracking import tracked_embeddings


AVERAGE = "average."
ATTRIBUTE = "send_runtime"
FEW_ROWS = 30

Collate = Callable[[list[Any]], dict[str, Any]]


class SenDRuntime:
    """Gate, tracker, counters and average of one model.

    Callbacks come and go - a Trainer makes them anew when it restores their state - so none of this lies in them.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not, before it is compiled or sharded.
        config (`SenDConfig`): settings.
        rows (`Sequence`): texts to track; may be empty for modes that do not look.
        collate (`Callable`): rows to keyword arguments of the model.
        score_function (`Callable`, *optional*): from the model to the score of `stop_score`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: SenDConfig,
        rows: Sequence[Any],
        collate: Collate,
        score_function: Callable[[nn.Module], float] | None = None,
    ) -> None:
        if (config.stop_score is not None) != (score_function is not None):
            raise ValueError("`stop_score` and `score_function` must be given together")
        self.config, self.rows, self.collate, self.score_function = config, rows, collate, score_function
        block = block_at(model, config.layer, config.blocks)
        at_mlp = config.site == "mlp"
        self.site_module = down_projection(block, config.down_projection) if at_mlp else block
        self.tracks_mlp = at_mlp and config.index_space == "site"
        self.tracked_module = self.site_module if self.tracks_mlp else block
        self.size = input_size(self.site_module) if at_mlp else hidden_size(model)
        self.index_size = self.size if self.tracks_mlp else hidden_size(model)
        if self.index_size > self.size:
            raise ValueError(f"`index_space` 'hidden' has {self.index_size} indices, the MLP only {self.size}")
        self.count = config.num_dropped(self.index_size) if config.masks else 0
        self._check_rows()
        self.gate: ActivationGate | None = None
        if config.masks or config.mode == "dropout":
            rate = config.dropout if config.mode == "dropout" else 0.0
            self.gate = ActivationGate(
                self.site_module, self.size, config.site, config.mask_in_eval, config.rescale, rate
            )
        self.average: WeightAverage | None = None
        self.restore_from: Path | None = None
        self.saved_by_trainer = False
        self.reset()
        setattr(base_model_of(model), ATTRIBUTE, self)

    def _check_rows(self) -> None:
        if not self.looks:
            return
        if not len(self.rows):
            raise ValueError(f"`track_dataset` must have texts for mode {self.config.mode!r}, got none")
        if len(self.rows) < FEW_ROWS:
            warnings.warn(
                f"{len(self.rows)} tracked texts are few: below {FEW_ROWS} the selection is mostly noise",
                UserWarning,
                stacklevel=3,
            )

    @property
    def looks(self) -> bool:
        """Whether embeddings are tracked."""
        return self.config.mode in ("send", "off")

    @property
    def dropped(self) -> list[int]:
        """Indices that are dropped now."""
        return self.gate.dropped if self.gate is not None else []

    @property
    def first_refresh(self) -> int:
        """Checkpoint at which indices are chosen for the first time: the first multiple of T from C on."""
        every = self.config.refresh_every
        return -(-self.config.window // every) * every

    def reset(self) -> None:
        """Back to the beginning of a run."""
        self.tracker = SensitivityTracker(self.config.window, self.config.aggregate)
        self.checkpoints = 0
        self.refreshes: list[dict[str, Any]] = []
        if self.gate is not None and self.config.masks:
            self.gate.set_dropped([])

    def begin(self, model: nn.Module, folder: Path | None) -> None:
        """At the start of training, after the model was prepared.

        Args:
            model (`nn.Module`): the model.
            folder (`Path`, *optional*): checkpoint that the run goes on from.
        """
        self.reset()
        if self.config.mode == "ema":
            self.average = WeightAverage(model, self.config.ema_decay)
        if folder is not None:
            self.load(folder)
        self.restore_from = None

    def observe(self, model: nn.Module, step: int, loss: float | None = None) -> dict[str, float]:
        """At a checkpoint: look, and choose anew if it is time.

        Args:
            model (`nn.Module`): the model, not its wrapper.
            step (`int`): optimizer steps so far.
            loss (`float`, *optional*): the last one, kept beside what is chosen.

        Returns:
            `dict`: numbers for the log.
        """
        self.checkpoints += 1
        sound = self._look(model) if self.looks else True
        logs: dict[str, float] = {"send/checkpoint": self.checkpoints}
        due = self.checkpoints >= self.config.window and self.checkpoints % self.config.refresh_every == 0
        if self.gate is not None and self.config.masks and due and sound:
            logs |= self._refresh(self.gate, step, loss)
        return logs

    def note_loss(self, loss: float, step: int) -> None:
        """Keeps the losses before and after indices were chosen: dropping one that carries much makes it jump.

        Args:
            loss (`float`): of training.
            step (`int`): optimizer steps so far.
        """
        if not self.refreshes:
            return
        last = self.refreshes[-1]
        if step <= last["step"]:
            last["loss_before"] = loss
        elif last["loss_after"] is None:
            last["loss_after"] = loss

    def _look(self, model: nn.Module) -> bool:
        with self.gate.suspended() if self.gate is not None else nullcontext(), torch.random.fork_rng(devices=[]):
            # a collator that draws gives the same inputs every time; not `torch.manual_seed`, which would set the
            # generators of the devices too, and training goes on with those
            torch.default_generator.manual_seed(self.config.seed)
            found = tracked_embeddings(
                model, self.tracked_module, self.rows, self.collate, self.config.track_batch_size, self.tracks_mlp
            )
        return self.tracker.add(found)

    def _refresh(self, gate: ActivationGate, step: int, loss: float | None) -> dict[str, float]:
        """New indices instead of the old ones, never beside them."""
        if self.config.mode == "random":
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.checkpoints)
            chosen = torch.randperm(self.index_size, generator=generator)[: self.count].sort().values
        elif self.tracker.ready:
            chosen = self.tracker.select(self.count)
        else:
            return {}  # checkpoints that were not finite have been left out
        if not len(chosen):
            warnings.warn("no tracked activation has moved: nothing is dropped", RuntimeWarning, stacklevel=4)
        _check_equal_on_all_processes(chosen.tolist())
        before = set(self.dropped)
        gate.set_dropped(chosen)
        common = len(before & set(self.dropped))
        entry = {"checkpoint": self.checkpoints, "step": step, "dropped": self.dropped}
        self.refreshes.append({**entry, "loss_before": loss, "loss_after": None})
        return {"send/num_dropped": len(self.dropped), "send/kept_from_before": common}

    def should_stop(self, model: nn.Module, loss: float | None) -> bool:
        """Whether loss and score are both low enough; the first process decides for all.

        Args:
            model (`nn.Module`): the model.
            loss (`float`, *optional*): logged last.
        """
        config = self.config
        if config.stop_loss is None or config.stop_score is None or self.score_function is None:
            return False
        if loss is None or loss >= config.stop_loss:
            return False
        verdict = [self.score_function(model) < config.stop_score]
        if _distributed():
            dist.broadcast_object_list(verdict, src=0)
        return bool(verdict[0])

    def save(self, folder: str | Path, write: bool = True) -> None:
        """Writes `send_state.safetensors` and `send_config.json`; every process must call it.

        Args:
            folder (`str` or `Path`): of a checkpoint or model.
            write (`bool`, *optional*, defaults to `True`): false on the processes that do not write.
        """
        tensors = {
            "checkpoints": torch.tensor(self.checkpoints),
            "dropped": torch.tensor(self.dropped, dtype=torch.long),
        }
        if self.tracker.history:
            tensors["history"] = torch.stack(self.tracker.history)  # [C or fewer, N, d]
        if self.average is not None:
            tensors |= {f"{AVERAGE}{name}": value for name, value in self.average.state().items()}
        if write:
            write_state(folder, self.config, tensors, dropped=self.dropped, refreshes=self.refreshes)

    def load(self, folder: str | Path) -> None:
        """Restores what [`save`] wrote.

        Args:
            folder (`str` or `Path`): of a checkpoint.

        Raises:
            ValueError: there is none in the folder, or it is of other settings or other tracked texts.
        """
        tensors, entries = read_state(folder, self.config)
        if "history" in tensors:
            found, wanted = tuple(tensors["history"].shape[1:]), (len(self.rows), self.index_size)
            if found != wanted:
                raise ValueError(f"`track_dataset` must be that of {folder}: {found}, got {wanted}")
            self.tracker.history = list(tensors["history"])
        self.checkpoints, self.refreshes = int(tensors["checkpoints"]), entries["refreshes"]
        if self.gate is not None and self.config.masks:
            self.gate.set_dropped(tensors["dropped"])
        if self.average is not None:
            self.average.load({n.removeprefix(AVERAGE): t for n, t in tensors.items() if n.startswith(AVERAGE)})


def runtime_of(model: nn.Module) -> SenDRuntime | None:
    """The runtime that lives on a model.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
    """
    return getattr(base_model_of(model), ATTRIBUTE, None)


def remove_send(model: nn.Module) -> None:
    """Takes gate and runtime off a model, which is then as before.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
    """
    runtime = runtime_of(model)
    if runtime is not None:
        if runtime.gate is not None:
            runtime.gate.remove()
        delattr(base_model_of(model), ATTRIBUTE)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _check_equal_on_all_processes(indices: list[int]) -> None:
    if not _distributed():
        return
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, indices)
    if any(other != found[0] for other in found):
        raise RuntimeError(f"the processes have chosen different indices: {found}")
