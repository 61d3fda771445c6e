# SPDX-License-Identifier: Apache-2.0
"""The SORSA layers: a frozen weight and the change of its leading singular triple."""

import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils import resolve_quantization_backend
from peft.utils.integrations import gather_params_ctx
from torch import Tensor, nn
from torch.nn.functional import linear

from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.factors import Factors, check_fingerprint, check_rank, factors_from_svd, fingerprint
from eigenhub.tuners.sorsa.svd_cache import cached_factors


TRAINED = ("sorsa_U", "sorsa_S", "sorsa_V")
FROZEN = ("sorsa_U0", "sorsa_S0", "sorsa_V0")
LOW_PRECISION = (torch.float16, torch.bfloat16)


class SorsaLayer(BaseTunerLayer, nn.Module):
    """State and arithmetic shared by all SORSA layers.

    The effective weight is `W + s (U diag(S) V - U0 diag(S0) V0)`. Factors always have the layout of `W (out, in)`, also
    where the base layer stores its transpose.
    """

    sorsa_U: nn.ParameterDict
    sorsa_S: nn.ParameterDict
    sorsa_V: nn.ParameterDict
    sorsa_U0: nn.ParameterDict
    sorsa_S0: nn.ParameterDict
    sorsa_V0: nn.ParameterDict

    adapter_layer_names = TRAINED
    other_param_names = (*FROZEN, "r", "scaling", "sorsa_dropout", "sorsa_config")

    def __init__(self, base_layer: nn.Module, name: str, **kwargs: Any) -> None:
        nn.Module.__init__(self)
        self.base_layer = base_layer
        self.module_name = name
        self.quantization_backend = resolve_quantization_backend(self.get_base_layer(), **kwargs)
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.sorsa_config: dict[str, SorsaConfig] = {}
        self.sorsa_dropout = nn.ModuleDict({})
        for key in TRAINED + FROZEN:
            setattr(self, key, nn.ParameterDict({}))
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.merge_loss: dict[str, float] = {}
        self.pending: set[str] = set()  # adapters whose factors nobody has set yet
        self.claimed_by: str | None = None  # the route that regularises this model, see routes.py
        self.folded: str | None = None  # adapter whose initial block is out of the base weight (mode="residual")
        self.register_load_state_dict_post_hook(_settle_loaded)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """`(out, in)` of the base weight, also where it is packed or partitioned."""
        base: Any = self.get_base_layer()
        return base.out_features, base.in_features

    @property
    def is_transposed(self) -> bool:
        """Whether the base layer stores `(in, out)`; `nn.Linear` itself never does, whatever a configuration says."""
        asked = any(config.fan_in_fan_out for config in self.sorsa_config.values())
        return asked and type(self.get_base_layer()) is not nn.Linear

    def _base_parameter(self) -> nn.Parameter:
        """The parameter as the base layer stores it: packed, transposed or partitioned, as it may be."""
        base: Any = self.get_base_layer()
        return base.weight

    def update_layer(self, adapter_name: str, config: SorsaConfig, r: int, alpha: float | None) -> None:
        """Allocate an adapter; [`initialize`] or a checkpoint sets its values."""
        check_rank(self.module_name, r, self.weight_shape)
        self.r[adapter_name], self.sorsa_config[adapter_name] = r, config
        self.scaling[adapter_name] = 1.0 if alpha is None else alpha / r
        self.sorsa_dropout[adapter_name] = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self._allocate(adapter_name)
        self.set_adapter(self.active_adapters)

    def _allocate(self, adapter_name: str) -> None:
        """Factors filled with NaN, so that a checkpoint that never arrives cannot pass unnoticed."""
        weight = self._base_parameter()
        dtype = torch.float32
        if weight.is_floating_point() and self.quantization_backend is None:
            dtype = torch.promote_types(weight.dtype, torch.float32)
        (m, n), r = self.weight_shape, self.r[adapter_name]
        for key, shape in zip(TRAINED + FROZEN, [(m, r), (r,), (r, n)] * 2, strict=True):
            values = torch.full(shape, float("nan"), dtype=dtype, device=weight.device)
            getattr(self, key)[adapter_name] = nn.Parameter(values, requires_grad=key in TRAINED)
        self.pending.add(adapter_name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keeps waiting factors recognisable where `to_empty` gives them memory of arbitrary content."""
        waiting = [(getattr(self, key), name) for key in TRAINED + FROZEN for name in self.pending]
        waiting = [(held, name) for held, name in waiting if held[name].is_meta]
        super()._apply(fn, recurse)
        for held, name in waiting:
            if not held[name].is_meta:
                held[name].data.fill_(float("nan"))
        return self

    def dense_weight(self) -> Tensor | None:
        """The base weight as `(out, in)`, dequantised; `None` where there is none yet (meta device)."""
        weight = self.get_base_weight()
        if weight.is_meta or weight.numel() == 0:
            return None
        if hasattr(weight, "full_tensor"):
            weight = weight.full_tensor()
        return weight.mT if self.is_transposed else weight

    @torch.no_grad()
    def pretrained_weight(self) -> Tensor | None:
        """The base weight `(out, in)` without merged changes and with a folded block put back; `None` on meta."""
        weight = self.dense_weight()
        if weight is None:
            return None
        for adapter in self.merged_adapters:
            delta = self.get_delta_weight(adapter)
            weight = weight - (delta.mT if self.is_transposed else delta).to(weight.dtype)
        return weight if self.folded is None else weight + self._block(self.folded).to(weight.dtype)

    @torch.no_grad()
    def initialize(self, adapter_name: str) -> None:
        """Set all six factors from the base weight; no-op where they are set or the weight is not there yet."""
        if adapter_name not in self.pending:
            return
        config, rank = self.sorsa_config[adapter_name], self.r[adapter_name]
        quantized = self.quantization_backend is not None
        with gather_params_ctx(self._base_parameter(), modifier_rank=None):
            weight = self.pretrained_weight()  # other adapters may be merged
            if weight is None:
                return
            cached = config.svd_cache is not None
            factors = cached_factors(config, self.module_name, rank, weight, quantized) if cached else None
            factors = factors or factors_from_svd(self.module_name, weight, rank, config)
            if config.base_fingerprint is not None:
                config.base_fingerprint[self.module_name] = fingerprint(weight, quantized)
        self._set(adapter_name, TRAINED, factors)
        self._set(adapter_name, FROZEN, factors)
        self.pending.discard(adapter_name)
        self._fold(adapter_name)

    def _set(self, adapter_name: str, keys: tuple[str, ...], factors: Factors) -> None:
        for key, values in zip(keys, factors, strict=True):
            held = getattr(self, key)
            if held[adapter_name].is_meta:
                held[adapter_name] = nn.Parameter(values.clone(), requires_grad=held[adapter_name].requires_grad)
            else:  # in place: optimizers and wrappers may hold the parameter already
                held[adapter_name].copy_(values)

    def settle(self, adapter_name: str) -> None:
        """Bring a pending adapter to a usable state: accept loaded values, rebuild what was not stored, or initialise."""
        if adapter_name not in self.pending:
            return
        missing = [key for key in TRAINED + FROZEN if _is_unset(getattr(self, key)[adapter_name])]
        if len(missing) == 6:
            self.initialize(adapter_name)
            if adapter_name in self.pending:
                raise RuntimeError(
                    f"SORSA adapter {adapter_name!r} of module {self.module_name!r} has no values yet and the base weight "
                    "is on the meta device: load a checkpoint of the adapter or of the base model first"
                )
            return
        self._accept(adapter_name, missing)

    @torch.no_grad()
    def _accept(self, adapter_name: str, missing: list[str]) -> None:
        """Check loaded factors against the base weight; rebuild the frozen ones of a `save_init=False` checkpoint."""
        config, name = self.sorsa_config[adapter_name], self.module_name
        rebuild = bool(missing)
        if rebuild and (config.save_init or set(missing) != set(FROZEN)):
            raise ValueError(f"the checkpoint of SORSA adapter {adapter_name!r} lacks {missing} for module {name!r}")
        with gather_params_ctx(self._base_parameter(), modifier_rank=None):
            weight = self.pretrained_weight()  # other adapters may be merged
            if weight is None:
                if rebuild:
                    raise RuntimeError(
                        f"`save_init=False`: U0, S0, V0 of {name!r} need the base weight, which is on meta"
                    )
                return
            expected = (config.base_fingerprint or {}).get(name)
            if expected is not None:
                check_fingerprint(name, expected, weight, quantized=self.quantization_backend is not None)
            if rebuild:
                exact = "auto" if config.svd_driver == "randomized" else None
                self._set(adapter_name, FROZEN, factors_from_svd(name, weight, self.r[adapter_name], config, exact))
        self.pending.discard(adapter_name)
        self._fold(adapter_name)

    def factors(self, adapter_name: str) -> tuple[Factors, Factors]:
        """Trained and initial factors of an adapter, settled."""
        self.settle(adapter_name)
        trained, frozen = (Factors(*(getattr(self, k)[adapter_name] for k in keys)) for keys in (TRAINED, FROZEN))
        return trained, frozen

    # ------------------------------------------------------------------ mode="residual"
    def _block(self, adapter_name: str) -> Tensor:
        u, s, v = (getattr(self, key)[adapter_name] for key in FROZEN)
        return self.scaling[adapter_name] * ((u * s) @ v)

    @torch.no_grad()
    def _fold(self, adapter_name: str) -> None:
        """Take the initial block out of the base weight, if the configuration asks for it."""
        if self.sorsa_config[adapter_name].mode == "residual" and self.folded is None and not self.merged:
            self._add_to_weight(-self._block(adapter_name))
            self.folded = adapter_name

    @torch.no_grad()
    def unfold(self) -> None:
        """Put the initial block back (up to one rounding of the base dtype)."""
        if self.folded is not None:
            self._add_to_weight(self._block(self.folded))
            self.folded = None

    # ------------------------------------------------------------------ merging
    def get_delta_weight(self, adapter: str) -> Tensor:
        """The change of the pretrained weight, in the layout of the base layer.

        Args:
            adapter (`str`): adapter name.
        """
        (u, s, v), (u0, s0, v0) = self.factors(adapter)
        delta = self.scaling[adapter] * ((u * s) @ v - (u0 * s0) @ v0)
        return delta.mT if self.is_transposed else delta

    def _add_to_weight(self, change: Tensor) -> float:
        """Add `change (out, in)` to the base weight; returns the share of it that rounding lost."""
        base = self.get_base_weight()
        change = change.mT if self.is_transposed else change
        wide = torch.promote_types(base.dtype, torch.float32)
        before = base.to(wide)
        after = before + change.to(wide)
        self.set_base_weight(after.to(base.dtype))
        if base.dtype not in LOW_PRECISION and self.quantization_backend is None:
            return 0.0
        lost = torch.linalg.vector_norm(self.get_base_weight().to(wide) - after)
        return (lost / torch.linalg.vector_norm(change.to(wide)).clamp_min(1e-30)).item()

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the change of the given adapters to the base weight.

        Args:
            safe_merge (`bool`, *optional*, defaults to `False`): refuse a change that is not finite.
            adapter_names (`list[str]`, *optional*): adapters to merge, by default the active ones.

        Raises:
            ValueError: `safe_merge` found NaN or infinite values, or the base layer cannot be written to.
        """
        backend = self.quantization_backend
        if backend is not None and not backend.supports_merge:
            raise ValueError(f"{backend.backend_name} layers cannot be merged into (module {self.module_name!r})")
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self.sorsa_U:
                continue
            with torch.no_grad():
                self.settle(adapter)
                delta = self.get_delta_weight(adapter)
                if safe_merge and not torch.isfinite(delta).all():
                    raise ValueError(f"NaNs detected in the merged weights. The adapter {adapter} seems to be broken")
                self.unfold()
                self.merge_loss[adapter] = self._add_to_weight(delta.mT if self.is_transposed else delta)
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Subtract every merged change again, up to the rounding of the base dtype."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        with torch.no_grad():
            while self.merged_adapters:
                adapter = self.merged_adapters.pop()
                if adapter in self.sorsa_U:
                    delta = self.get_delta_weight(adapter)
                    self._add_to_weight(-(delta.mT if self.is_transposed else delta))
                    self._fold(adapter)

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter; a folded block goes back into the base weight first."""
        if self.folded == adapter_name:
            self.unfold()
        self.pending.discard(adapter_name)
        self.merge_loss.pop(adapter_name, None)
        super().delete_adapter(adapter_name)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True

    # ------------------------------------------------------------------ forward
    def _change(self, x: Tensor, adapter: str) -> Tensor:
        """Output change of one adapter, `x (..., in)` to `(..., out)`.

        The two products stay separate: concatenating them changes the order of summation, and then the change at
        initialisation is rounding noise instead of zero.
        """
        if adapter in self.pending:
            self.settle(adapter)
        u, s, v = self.sorsa_U[adapter], self.sorsa_S[adapter], self.sorsa_V[adapter]
        h = self.sorsa_dropout[adapter](self._cast_input_dtype(x, u.dtype))
        change = linear(linear(h, v) * s, u)
        if self.folded != adapter:
            change = change - self._initial_change(h, adapter)
        scale = self.scaling[adapter]
        return change if scale == 1.0 else scale * change

    def _initial_change(self, h: Tensor, adapter: str) -> Tensor:
        u, s, v = self.sorsa_U0[adapter], self.sorsa_S0[adapter], self.sorsa_V0[adapter]
        return linear(linear(h, v) * s, u)

    def _base_forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Output of the pretrained layer, whether or not a block is folded out of its weight."""
        result = self.base_layer(x, *args, **kwargs)
        if self.folded is not None:
            h = self._cast_input_dtype(x, self.sorsa_U0[self.folded].dtype)
            result = result + (self.scaling[self.folded] * self._initial_change(h, self.folded)).to(result.dtype)
        return result

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        adapter_names = kwargs.pop("adapter_names", None)
        if self.disable_adapters:
            if self.merged:
                self.unmerge()
            return self._base_forward(x, *args, **kwargs)
        if adapter_names is not None:
            return self._mixed_forward(x, *args, adapter_names=adapter_names, **kwargs)
        active = [name for name in self.active_adapters if name in self.sorsa_U]
        for name in active:
            if name in self.pending:
                self.settle(name)  # before the base layer runs: settling may fold the weight
        if self.merged:
            return self.base_layer(x, *args, **kwargs)
        result = (
            self.base_layer(x, *args, **kwargs) if self.folded in active else self._base_forward(x, *args, **kwargs)
        )
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        for name in active:
            result = result + self._change(x, name).to(result.dtype)
        return result

    def _mixed_forward(self, x: Tensor, *args: Any, adapter_names: list[str], **kwargs: Any) -> Tensor:
        """One adapter per sample; `"__base__"` stands for none."""
        if self.merged:
            raise ValueError("Cannot pass `adapter_names` while adapters are merged, unmerge them first")
        if len(adapter_names) != len(x):
            raise ValueError(f"`adapter_names` has {len(adapter_names)} entries for a batch of {len(x)} samples")
        result = self._base_forward(x, *args, **kwargs)
        for name in sorted(set(adapter_names)):
            if name in self.sorsa_U:
                rows = torch.tensor([i for i, given in enumerate(adapter_names) if given == name], device=x.device)
                change = self._change(x[rows], name)
                if self.folded == name:
                    h = self._cast_input_dtype(x[rows], self.sorsa_U0[name].dtype)
                    change = change - self.scaling[name] * self._initial_change(h, name)
                result = result.index_add(0, rows, change.to(result.dtype))
        return result


def _is_unset(values: Tensor) -> bool:
    """Whether a factor still holds its NaN filling (a broken checkpoint can hold some NaN, not only NaN)."""
    if values.is_meta:
        return True
    if hasattr(values, "to_local"):
        values = values.to_local()
    return bool(torch.isnan(values).all())


def _settle_loaded(module: SorsaLayer, incompatible_keys: Any) -> None:
    """After `load_state_dict`: check or complete adapters whose trained factors have arrived."""
    for adapter in sorted(module.pending):
        if not any(_is_unset(getattr(module, key)[adapter]) for key in TRAINED):
            module.settle(adapter)
            own = tuple(f"{module.module_name}.{key}.{adapter}" for key in FROZEN)
            incompatible_keys.missing_keys[:] = [k for k in incompatible_keys.missing_keys if not k.endswith(own)]


class SorsaLinear(SorsaLayer):
    """SORSA on a layer with `in_features` and `out_features`: `nn.Linear` and dequantisable relatives."""

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        config: SorsaConfig,
        name: str,
        r: int,
        alpha: float | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(base_layer, name, **kwargs)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config, r, alpha)

    def __repr__(self) -> str:
        return "sorsa." + super().__repr__()


class SorsaConv1D(SorsaLinear):
    """SORSA on transformers' `Conv1D` (GPT-2), which stores `(in, out)`."""

    @property
    def weight_shape(self) -> tuple[int, int]:
        base: Any = self.get_base_layer()
        return base.nf, base.nx

    @property
    def is_transposed(self) -> bool:
        return True
