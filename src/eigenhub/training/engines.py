# SPDX-License-Identifier: Apache-2.0
"""An accelerator that hands whole models to the engines that shard them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.nn import Module

from eigenhub.training.launcher import asked_engine


class EngineAccelerator(Accelerator):
    """
    An `Accelerator` that mends three things about models on their way to an engine, and refuses to pass over an engine in silence.

    - With ZeRO-3, transformers partitions weights while they load, whatever `zero3_init_flag` says: an adapter could not be
      initialised from them, and processes that load one after the other would wait for each other for ever. Here models
      are loaded whole unless the flag is true, and partitioned by [`prepare`].
    - With FSDP2, accelerate shards the input embedding after the blocks, and fails where a block of the model's own list
      holds it, as in a ViT. Such a block is not sharded by itself.
    - Nor does FSDP2 get as far where a model raises when it is asked for an input embedding, as a ResNet does: it has none.

    Args:
        arguments (`Any`): of `Accelerator`.

    Raises:
        ValueError: where the launcher has asked for an engine and accelerate has chosen another, as it does on CPUs.

    Example:

    ```python
    >>> from eigenhub.training.engines import EngineAccelerator
    >>> EngineAccelerator(cpu=True).num_processes
    1

    ```
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._check_engine()
        self._loads_whole = (
            self.distributed_type == DistributedType.DEEPSPEED and not self.deepspeed_plugin.is_zero3_init_enabled()
        )
        if self._loads_whole:
            from transformers.integrations import unset_hf_deepspeed_config

            self.deepspeed_plugin.dschf = None
            unset_hf_deepspeed_config()

    def prepare(self, *objects: Any, **options: Any) -> Any:
        """As in accelerate; afterwards transformers knows of ZeRO-3, which it has to when it generates."""
        models = [entry for entry in objects if isinstance(entry, Module)]
        if self.distributed_type != DistributedType.FSDP:
            prepared = super().prepare(*objects, **options)
        else:
            with without_missing_embeddings(models):
                for model in models:
                    self._choose_blocks(model)
                prepared = super().prepare(*objects, **options)
        if self._loads_whole and models:
            self.deepspeed_plugin.set_deepspeed_weakref()
        return prepared

    def _check_engine(self) -> None:
        asked, found = asked_engine(), self.distributed_type.value
        if asked is not None and found != asked:
            raise ValueError(
                f"the launcher asked for {asked}, which accelerate passes over on this machine for {found}, as it does on CPUs: "
                "launch with another configuration of scripts/accelerate_configs, or with torchrun"
            )

    def _choose_blocks(self, model: Module) -> None:
        plugin = self.state.fsdp_plugin
        if plugin.transformer_cls_names_to_wrap is None:
            plugin.transformer_cls_names_to_wrap = block_names(model)


@contextmanager
def without_missing_embeddings(models: Sequence[Module]) -> Iterator[None]:
    """
    Inside, models that raise when they are asked for their input embedding say that there is none.

    Args:
        models (`Sequence[Module]`): perhaps without one.
    """
    without = [model for model in models if not _tells_embedding(model)]
    for model in without:
        model.get_input_embeddings = lambda: None  # type: ignore[assignment]  # over the method, for as long as this lasts
    try:
        yield
    finally:
        for model in without:
            del model.get_input_embeddings


def _tells_embedding(model: Module) -> bool:
    try:
        getattr(model, "get_input_embeddings", lambda: None)()
    except NotImplementedError:
        return False
    return True


def block_names(model: Module) -> list[str]:
    """
    The classes that a model names as not to be split, without those that are absent or hold its input embedding.

    Args:
        model (`Module`): perhaps with an adapter.
    """
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    named = getattr(model, "_no_split_modules", None) or ()
    blocks = [module for module in model.modules() if type(module).__name__ in named]
    unfit = {type(block).__name__ for block in blocks if embedding is not None and embedding in set(block.modules())}
    return sorted({type(block).__name__ for block in blocks} - unfit)
