# SPDX-License-Identifier: Apache-2.0
"""The SORSA tuner."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, replicate_layers
from peft.utils import (
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    get_quantization_kwargs,
    resolve_quantization_backend,
)
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from eigenhub.tuners.sorsa.bnb import SorsaLinear4bit, SorsaLinear8bitLt, SorsaQuantizedLinear
from eigenhub.tuners.sorsa.combine import add_weighted_adapter
from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.forward_route import install_forward_route, remove_forward_route
from eigenhub.tuners.sorsa.layer import FROZEN, LOW_PRECISION, TRAINED, SorsaConv1D, SorsaLayer, SorsaLinear
from eigenhub.tuners.sorsa.penalty import exact_defects, orthonormality_penalty


QUANTIZED_LAYERS = {"bnb 8bit": SorsaLinear8bitLt, "bnb 4bit": SorsaLinear4bit}


class _Snapshot:
    """What a failed injection has to give back: the tree of modules, its depth, and what requires a gradient."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tree = [(module, dict(module._modules)) for module in model.modules()]
        self.trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self.config: Any = getattr(model, "config", None)
        self.depth = getattr(self.config, "num_hidden_layers", None)  # `layer_replication` changes it

    def restore(self, adapter_name: str) -> None:
        for layer in [module for module in self.model.modules() if isinstance(module, SorsaLayer)]:
            if adapter_name in layer.sorsa_U:
                layer.delete_adapter(adapter_name)
        for module, children in self.tree:
            module._modules.clear()
            module._modules.update(children)
        for parameter, requires_grad in self.trainable:
            parameter.requires_grad = requires_grad
        if self.depth is not None:
            self.config.num_hidden_layers = self.depth


class SorsaModel(BaseTuner):
    """A model whose target weights are adapted by SORSA. Made by `peft.get_peft_model(model, SorsaConfig(...))`.

    Paper: arXiv 2409.00055. What differs from the released code: the base weight is never written to, the forward pass
    stays low-rank, the SVD runs in float32 or better, and the penalty's strength does not depend on accumulation.

    Example:

    ```python
    >>> from peft import get_peft_model
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from eigenhub.tuners.sorsa import SorsaConfig
    >>> base = LlamaForCausalLM(LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    ...     num_attention_heads=2, vocab_size=99))
    >>> model = get_peft_model(base, SorsaConfig(r=4, target_modules=["q_proj", "v_proj"]))
    >>> model.regularization_loss().item() < 1e-5
    True
    ```
    """

    peft_config: dict[str, SorsaConfig]  # type: ignore[assignment]  # narrower than PEFT's

    prefix = "sorsa_"
    tuner_layer_cls = SorsaLayer
    target_module_mapping: Any = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    # ------------------------------------------------------------------ the penalty
    def regularization_loss(self, adapter_names: list[str] | str | None = None) -> Tensor:
        """The penalty R, not multiplied by `reg_weight`. See [`orthonormality_penalty`]."""
        return orthonormality_penalty(self, adapter_names)

    def orthonormality(self, adapter_names: list[str] | str | None = None) -> dict[str, float]:
        """Exact distances from orthonormality by module, for logging. See [`exact_defects`]."""
        return exact_defects(self.model, adapter_names)

    # ------------------------------------------------------------------ injection
    def _check_new_adapter_config(self, config: SorsaConfig) -> None:  # type: ignore[override]
        super()._check_new_adapter_config(config)
        # by name and not by identity: one configuration object may serve several adapters
        for name in [name for name in self.peft_config if name in self.prefix]:
            raise ValueError(
                f"adapter name {name!r} is contained in the parameter prefix {self.prefix!r}, which PEFT uses to tell the "
                "tensors of adapters apart: choose another name"
            )
        if len(self.peft_config) > 1 and any(known.mode == "residual" for known in self.peft_config.values()):
            raise ValueError("mode='residual' allows a single adapter: use mode='delta' for several")

    def _prepare_model(self, peft_config: SorsaConfig, model: nn.Module) -> None:  # type: ignore[override]
        if peft_config.layer_replication:
            replicate_layers(model, peft_config.layer_replication)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add the layers, then decompose their weights, the largest first; undone as a whole if one of them fails."""
        before = _Snapshot(model)
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
            config = self.peft_config[adapter_name]
            if config.mode == "residual":
                self._check_residual_allowed(model)
            if config.init_weights is True:
                self._initialize(model, adapter_name)
            if config.reg_in_forward:
                install_forward_route(model)
        except Exception:
            before.restore(adapter_name)
            self.peft_config.pop(adapter_name, None)
            raise

    def _initialize(self, model: nn.Module, adapter_name: str) -> None:
        layers = [m for m in model.modules() if isinstance(m, SorsaLayer) and adapter_name in m.pending]
        # With `low_cpu_mem_usage` new parameters go to the meta device: they wait for a checkpoint or for their first use.
        layers = [layer for layer in layers if not layer.sorsa_U[adapter_name].is_meta]
        layers.sort(key=lambda layer: layer.weight_shape[0] * layer.weight_shape[1], reverse=True)
        for layer in tqdm(layers, desc="SORSA: decomposing weights", delay=2.0):
            layer.initialize(adapter_name)

    def _create_and_replace(  # type: ignore[override]
        self,
        peft_config: SorsaConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        rank = peft_config.rank_pattern.get(
            get_pattern_key(list(peft_config.rank_pattern), current_key), peft_config.r
        )
        alpha_key = get_pattern_key(list(peft_config.alpha_pattern), current_key)
        alpha = peft_config.alpha_pattern.get(alpha_key, peft_config.alpha)
        if isinstance(target, SorsaLayer):
            target.update_layer(adapter_name, peft_config, rank, alpha)
            return
        layer_cls = self._layer_class(target, current_key)
        if peft_config.fan_in_fan_out and type(target) is nn.Linear:
            warnings.warn(f"`fan_in_fan_out=True` has no effect on the torch.nn.Linear {current_key!r}", stacklevel=2)
        kwargs = get_quantization_kwargs(self.model)
        layer = layer_cls(target, adapter_name, config=peft_config, name=current_key, r=rank, alpha=alpha, **kwargs)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)  # an additional adapter is not trained unless it is activated
        self._replace_module(parent, target_name, layer, target)

    def _layer_class(self, target: nn.Module, name: str) -> type[SorsaLinear]:
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if isinstance(base, Conv1D):
            return SorsaConv1D
        backend = resolve_quantization_backend(base, **get_quantization_kwargs(self.model))
        if backend is not None and backend.layer_type == "linear" and backend.supports_merge:
            return QUANTIZED_LAYERS.get(backend.backend_name, SorsaLinear)
        if isinstance(base, NonDynamicallyQuantizableLinear):
            raise ValueError(
                f"module {name!r} is the output projection of a torch.nn.MultiheadAttention, which reads the weight and never "
                "calls the module: an adapter there would do nothing. Add it to `exclude_modules`"
            )
        if isinstance(base, nn.Linear) and backend is None:
            return SorsaLinear
        raise ValueError(
            f"SORSA cannot adapt module {name!r} of type {type(base).__name__}: allowed are torch.nn.Linear, transformers' "
            "Conv1D, and quantised linear layers that can be dequantised (bitsandbytes 8-bit and 4-bit, HQQ, torchao). "
            "Adjust `target_modules` or `exclude_modules`"
        )

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Factors are float32; `autocast_adapter_dtype=False` asks for the dtype of a half-precision base."""
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if autocast_adapter_dtype:
            return
        rounded = False
        for layer in self.model.modules():
            if isinstance(layer, SorsaLayer) and adapter_name in layer.sorsa_U:
                dtype = layer.get_base_layer().weight.dtype
                if dtype in LOW_PRECISION:
                    for key in TRAINED + FROZEN:  # initial and trained factors round alike: still a no-op at the start
                        parameter = getattr(layer, key)[adapter_name]
                        parameter.data = parameter.data.to(dtype)
                    rounded = True
        if rounded:
            warnings.warn(
                f"the factors of SORSA adapter {adapter_name!r} are in half precision: the orthonormality penalty has a "
                "floor of about sqrt(r) * eps there, and steps of the usual learning rates vanish in rounding. Leave "
                "`autocast_adapter_dtype=True` for training",
                stacklevel=3,
            )

    # ------------------------------------------------------------------ checkpoint
    @classmethod
    def _get_adapter_state_dict(  # type: ignore[override]
        cls,
        model: nn.Module,
        config: SorsaConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        for layer in model.modules():
            if isinstance(layer, SorsaLayer):
                layer.settle(adapter_name)
        kept = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, unwanted_adapter_names)
        if config.save_init:
            return kept
        frozen = re.compile(rf"\.({'|'.join(FROZEN)})\.")
        return {key: value for key, value in kept.items() if not frozen.search(key)}

    # ------------------------------------------------------------------ merging
    def _shared_targets(self) -> list[str]:
        """Names of adapted modules whose base weight another module uses too (tied heads, replicated layers)."""
        users: dict[int, int] = {}
        for module in self.model.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    users[id(parameter)] = users.get(id(parameter), 0) + 1
        return [
            layer.module_name
            for layer in self.model.modules()
            if isinstance(layer, SorsaLayer) and users.get(id(layer.get_base_layer().weight), 1) > 1
        ]

    def _check_merge_allowed(self) -> None:
        if shared := self._shared_targets():
            raise ValueError(
                f"cannot merge: the base weight of {', '.join(shared[:3])}{' ...' if len(shared) > 3 else ''} is shared with "
                "another module (tied embeddings or replicated layers), which the merge would change too. Untie the weights "
                "first, keep the adapter unmerged, or export it with `export_lora`"
            )

    def _check_residual_allowed(self, model: nn.Module) -> None:
        if shared := self._shared_targets():
            raise ValueError(
                f"mode='residual' writes to the base weight, but {shared[0]!r} shares its weight with another module"
            )
        for layer in model.modules():
            if isinstance(layer, SorsaLayer) and layer.quantization_backend is not None:
                raise ValueError(
                    f"mode='residual' writes to the base weight, but module {layer.module_name!r} is quantised"
                )

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)
        self._report_merge_loss(self._merge_losses())

    def merge_and_unload(
        self,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
        dtype: torch.dtype | None = None,
        dequantize: bool = False,
    ) -> nn.Module:
        """Merge the adapters into the base weights and return the plain model.

        Args:
            progressbar (`bool`, *optional*, defaults to `False`): show progress over the modules.
            safe_merge (`bool`, *optional*, defaults to `False`): refuse changes that are not finite.
            adapter_names (`list[str]`, *optional*): adapters to merge, by default the active ones.
            dtype (`torch.dtype`, *optional*): convert the whole model first, for example to `torch.float32`: in bfloat16 an
                update of relative size 5e-4 is lost almost entirely. The share that was lost is reported as a warning.
            dequantize (`bool`, *optional*, defaults to `False`): replace quantised target layers by dense ones, in `dtype` or
                bfloat16, instead of rounding the sum back to 8 or 4 bits.

        Raises:
            ValueError: a base weight is shared with another module, or `safe_merge` found values that are not finite.
        """
        self._check_merge_allowed()
        if dtype is not None:
            self._convert_base(dtype)
        if dequantize:
            for layer in self.model.modules():
                if isinstance(layer, SorsaQuantizedLinear) and layer.quantization_backend is not None:
                    layer.dequantize_base_(dtype or torch.bfloat16)
        layers = [module for module in self.model.modules() if isinstance(module, SorsaLayer)]
        model = super().merge_and_unload(progressbar, safe_merge=safe_merge, adapter_names=adapter_names)
        self._report_merge_loss([loss for layer in layers for loss in layer.merge_loss.values()])
        return model

    def _convert_base(self, dtype: torch.dtype) -> None:
        """Change the dtype of everything but quantised weights, which refuse it, and the factors, which keep theirs."""
        for module in self.model.modules():
            if isinstance(module, nn.ParameterDict) or resolve_quantization_backend(module) is not None:
                continue
            for tensor in [*module._parameters.values(), *module._buffers.values()]:
                if tensor is not None and tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)

    def _merge_losses(self) -> list[float]:
        layers = [module for module in self.model.modules() if isinstance(module, SorsaLayer)]
        return [
            layer.merge_loss[name] for layer in layers for name in layer.merged_adapters if name in layer.merge_loss
        ]

    @staticmethod
    def _report_merge_loss(losses: list[float]) -> None:
        if losses and max(losses) > 0.01:
            mean = sum(losses) / len(losses)
            warnings.warn(
                f"merging lost {mean:.0%} of the update to rounding (mean over {len(losses)} modules, at most {max(losses):.0%}). "
                "Pass `dtype=torch.float32` (and `dequantize=True` on a quantised base) to `merge_and_unload` to keep it",
                stacklevel=3,
            )

    def _unload_and_optionally_merge(self, merge: bool = True, **kwargs: Any) -> nn.Module:  # type: ignore[override]
        if not merge:
            for layer in self.model.modules():
                if isinstance(layer, SorsaLayer):
                    layer.unfold()
        remove_forward_route(self.model)
        return super()._unload_and_optionally_merge(merge=merge, **kwargs)  # type: ignore[return-value]

    # ------------------------------------------------------------------ several adapters
    def add_weighted_adapter(
        self, adapters: list[str], weights: list[float], adapter_name: str, combination_type: str = "cat"
    ) -> None:
        """Add an adapter whose change is a weighted sum of others. See [`combine.add_weighted_adapter`]."""
        add_weighted_adapter(self, adapters, weights, adapter_name, combination_type)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Serve `adapter_names=[...]`, one adapter per sample, to every layer for one forward pass."""
        adapter_names = kwargs.get("adapter_names")
        if adapter_names is None:
            yield
            return
        if self.training:
            raise ValueError("Cannot pass `adapter_names` when the model is in training mode.")
        unknown = set(adapter_names) - set(self.peft_config) - {"__base__"}
        if unknown:
            raise ValueError(
                f"`adapter_names` contains unknown adapters {sorted(unknown)}, known are {sorted(self.peft_config)}"
            )
        beams = kwargs.get("num_beams")
        beams = beams if isinstance(beams, int) else 1
        # Beam search repeats the samples for the decoder only. `modules_to_save` wrappers hold one copy per adapter.
        encoder = set(self._encoder_modules())
        handles = []
        for module in self.modules():
            if isinstance(module, SorsaLayer | AuxiliaryTrainingWrapper):
                repeats = 1 if module in encoder else beams
                names = [name for name in adapter_names for _ in range(repeats)]
                hook = partial(_pass_adapter_names, adapter_names=names)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _encoder_modules(self) -> Iterator[nn.Module]:
        """The modules of an encoder-decoder model's encoder; nothing for other models."""
        encoder = self.model.get_encoder() if hasattr(self.model, "get_encoder") else None
        if encoder is not None and encoder is not self.model:  # a model without an encoder answers itself
            yield from encoder.modules()


def _pass_adapter_names(module: nn.Module, args: tuple, kwargs: dict, adapter_names: list[str]) -> tuple[tuple, dict]:
    return args, {**kwargs, "adapter_names": adapter_names}
