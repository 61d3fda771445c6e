# SPDX-License-Identifier: Apache-2.0
"""The LoRA adapter inside a PEFT model: what of it can be federated, reading it, writing it, training parts of it."""

from collections.abc import Mapping

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from eigenhub.federated.lora_keys import as_matrix, pair_lora_keys


# Variants whose layers are more than a product of two factors, or share factors with another layer.
_REFUSED_OPTIONS = """use_dora target_parameters lora_bias use_qalora use_bdlora kasa_config monteclora_config
    trainable_token_indices ensure_weight_tying""".split()
# They write into the base weights, so that a saved adapter fits only a base that was changed in the same way.
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")


def check_lora_model(model: nn.Module, adapter_name: str = "default") -> LoraConfig:
    """The configuration of an adapter that can be federated.

    Args:
        model (`nn.Module`): should be a `PeftModel` with an unmerged LoRA adapter of that name.
        adapter_name (`str`, *optional*, defaults to `"default"`): which of its adapters.

    Raises:
        ValueError: not a PEFT model, no such adapter, another kind of adapter, a LoRA variant whose layers are not plain
            products, a rank above the width of a layer, merged weights, or tensors that are sharded or have no values.
    """
    if not isinstance(model, PeftModel):
        raise ValueError(f"`model` must be a PeftModel (see `peft.get_peft_model`), got {type(model).__name__}")
    if adapter_name not in model.peft_config:
        raise ValueError(f"`adapter_name` must be one of {', '.join(model.peft_config)}; got {adapter_name!r}")
    config = model.peft_config[adapter_name]
    if not isinstance(config, LoraConfig):
        raise ValueError(f"adapter {adapter_name!r} must be LoRA, got {type(config).__name__}")
    if used := [name for name in _REFUSED_OPTIONS if getattr(config, name, None)]:
        raise ValueError(f"adapter {adapter_name!r} uses `{used[0]}`, whose layers are no plain products B A")
    if config.bias != "none":
        raise ValueError(f"adapter {adapter_name!r} has `bias={config.bias!r}`: biases of the base are not federated")
    init = config.init_lora_weights
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INITS):
        raise ValueError(f"adapter {adapter_name!r} has `init_lora_weights={init!r}`, which changes the base weights")
    _check_layers(model, adapter_name)
    return config


def _check_layers(model: PeftModel, adapter_name: str) -> None:
    for name, layer in lora_layers(model, adapter_name).items():
        if layer.merged:
            raise ValueError(f"layer `{name}` is merged: call `model.unmerge_adapter()` first")
    live = live_tensors(model, adapter_name)
    for name, pair in pair_lora_keys(live).items():
        a = live[pair.A]
        if a.is_meta:
            raise ValueError(f"layer `{name}` is on the meta device: it has no values yet")
        if hasattr(a, "full_tensor") or hasattr(a, "ds_id"):
            raise ValueError(f"layer `{name}` is sharded (FSDP or DeepSpeed): gather the adapter first")
        if (rank := a.shape[0]) > (width := as_matrix(a).shape[1]):
            raise ValueError(
                f"layer `{name}`: rank {rank} is above its input width {width}; lower `r` or `rank_pattern`"
            )


def lora_layers(model: PeftModel, adapter_name: str = "default") -> dict[str, LoraLayer]:
    """The layers that have the adapter, by the names that [`pair_lora_keys`] gives them.

    Args:
        model (`PeftModel`): with LoRA layers.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
    """
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))
    return {name: layer for name, layer in layers if adapter_name in layer.scaling}


def lora_scalings(model: PeftModel, adapter_name: str = "default") -> dict[str, float]:
    """`lora_alpha / r` of every layer (`/ sqrt(r)` with rank-stabilised LoRA).

    Args:
        model (`PeftModel`): with LoRA layers.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
    """
    return {name: float(layer.scaling[adapter_name]) for name, layer in lora_layers(model, adapter_name).items()}


def live_tensors(model: PeftModel, adapter_name: str = "default") -> dict[str, Tensor]:
    """What a saved adapter consists of, under its keys, sharing memory with the parameters.

    Args:
        model (`PeftModel`): unwrapped.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
    """
    return get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)


def read_adapter(
    model: PeftModel, adapter_name: str = "default", live: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """A copy of the adapter on the CPU, in the dtypes of its parameters.

    Args:
        model (`PeftModel`): unwrapped.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
        live (`Mapping[str, Tensor]`, *optional*): from [`live_tensors`], which is slow beside a step of a small model.
    """
    live = live_tensors(model, adapter_name) if live is None else live
    return {key: tensor.detach().to("cpu", copy=True) for key, tensor in live.items()}


def write_adapter(
    model: PeftModel,
    state: Mapping[str, Tensor],
    adapter_name: str = "default",
    live: Mapping[str, Tensor] | None = None,
) -> None:
    """Copy tensors into the adapter's parameters, which keep their identity, dtype and device.

    Args:
        model (`PeftModel`): unwrapped.
        state (`Mapping[str, Tensor]`): all or some of the tensors of a saved adapter; the others stay.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
        live (`Mapping[str, Tensor]`, *optional*): see [`read_adapter`].

    Raises:
        ValueError: for keys that the adapter does not have and for shapes that differ; nothing is written then.
    """
    live = live_tensors(model, adapter_name) if live is None else live
    if unknown := sorted(set(state) - set(live)):
        raise ValueError(f"`state` has {len(unknown)} keys that the adapter does not have, such as `{unknown[0]}`")
    for key, tensor in state.items():
        if tensor.shape != live[key].shape:
            raise ValueError(f"`{key}` has shape {tuple(tensor.shape)}, the adapter's is {tuple(live[key].shape)}")
    with torch.no_grad():
        for key, tensor in state.items():
            live[key].copy_(tensor)


def set_trainable(model: PeftModel, factors: str, adapter_name: str = "default", train_head: bool = False) -> None:
    """Let gradients into some factors of one adapter and nowhere else.

    Args:
        model (`PeftModel`): unwrapped.
        factors (`str`): "A", "B" or "AB".
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
        train_head (`bool`, *optional*, defaults to `False`): also into its `modules_to_save`.
    """
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if adapter_name not in parts:
            continue
        is_factor = any(f"lora_{f}" in parts or f"lora_embedding_{f}" in parts for f in factors)
        is_head = train_head and "modules_to_save" in parts
        parameter.requires_grad_(is_factor or is_head)


def freeze_lora_A_(model: PeftModel, adapter_name: str = "default") -> None:
    """Freeze the factor A of every layer of one adapter (FFA-LoRA); B and the rest stay as they are.

    Args:
        model (`PeftModel`): with a LoRA adapter.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
    """
    check_lora_model(model, adapter_name)
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if adapter_name in parts and ("lora_A" in parts or "lora_embedding_A" in parts):
            parameter.requires_grad_(False)
