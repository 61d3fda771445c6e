# SPDX-License-Identifier: Apache-2.0
"""Configuration of a SORSA adapter."""

from dataclasses import dataclass, field
from typing import Literal

from peft import PeftConfig

from eigenhub.linalg.lowrank import SVD_DRIVERS
from eigenhub.tuners.registry import EigenhubPeftType


DRIVER_ALIASES = {"lowrank": "randomized", "randomised": "randomized"}


@dataclass
class SorsaConfig(PeftConfig):
    r"""Configuration of a [`SorsaModel`]: Singular values and Orthonormal Regularized Singular vectors Adaptation.

    Each target weight `W (m, n)` is trained through its own leading singular triple, as
    `W + s (U diag(S) V - U0 diag(S0) V0)`; `U (m, r)`, `S (r,)`, `V (r, n)` start at the truncated SVD and are trained,
    `W` and the initial factors stay frozen. A penalty on the distance of `U` and `V` from orthonormality, weighted by
    `reg_weight`, keeps scale in `S`. Paper: arXiv 2409.00055.

    Args:
        r (`int`, *optional*, defaults to 16): rank, at most `min(m, n)` of every target.
        alpha (`float`, *optional*): scale `s = alpha / r`; `None` means `s = 1`, the paper's form. With another scale the
            frozen part is `W - s U0 diag(S0) V0`, so the output at initialisation is that of the base model for every `s`.
        dropout (`float`, *optional*, defaults to 0.0): dropout on the input of the change, not of the pretrained block.
        target_modules (`list[str] | str`, *optional*): names or a regular expression, `"all-linear"`, or `None` for PEFT's
            default for the architecture.
        exclude_modules (`list[str] | str`, *optional*): names or a regular expression to leave out.
        modules_to_save (`list[str]`, *optional*): other modules trained and saved in full (a new head, for example).
        layers_to_transform (`list[int] | int`, *optional*): indices of the layers to adapt.
        layers_pattern (`list[str] | str`, *optional*): name of the layer list, with `layers_to_transform`.
        rank_pattern (`dict[str, int]`, *optional*): ranks that differ from `r`, by module name or pattern.
        alpha_pattern (`dict[str, float]`, *optional*): alphas that differ from `alpha`, by module name or pattern.
        layer_replication (`list[tuple[int, int]]`, *optional*): build a deeper model from ranges of shared layers.
        fan_in_fan_out (`bool`, *optional*, defaults to `False`): set by itself for `Conv1D`; only custom layers that store
            `(in, out)` weights need it.
        reg_weight (`float`, *optional*, defaults to 0.2): weight of the penalty in the objective. See
            [`lambda_from_gamma`] for the paper's parametrisation.
        reg_eps (`float`, *optional*, defaults to 1e-3): each Frobenius norm `f` enters as `sqrt(f^2 + eps^2) - eps`, so
            that rounding noise is not normalised at the start; 0 gives the released code's penalty.
        reg_reduction (`str`, *optional*, defaults to `"mean"`): `"mean"` over all 2L norms or their `"sum"`. With the mean the
            strength per matrix falls as the number of targets grows.
        reg_in_forward (`bool`, *optional*, defaults to `False`): add the penalty to `outputs.loss` in training mode. For raw
            loops without gradient accumulation on one process only; use [`SorsaRegularizerCallback`] or [`SorsaTrainer`]
            with `Trainer` and [`apply_regularizer`] with accelerate.
        svd_driver (`str`, *optional*, defaults to `"auto"`): `"full"`, `"gram"` (both exact), `"randomized"`, or `"auto"`:
            exact, by size. See [`~eigenhub.linalg.truncated_svd`].
        svd_niter (`int`, *optional*, defaults to 6): Krylov steps of the randomized driver.
        svd_oversample (`int`, *optional*, defaults to 32): extra columns of the randomized driver.
        seed (`int`, *optional*, defaults to 0): seed of the randomized driver, combined with each module's name; the
            global random state is not touched.
        svd_cache (`str`, *optional*): file, folder or Hub id with precomputed factors, see [`build_svd_cache`].
        mode (`str`, *optional*, defaults to `"delta"`): `"delta"` leaves `W` untouched to the bit. `"residual"` folds
            `s U0 diag(S0) V0` out of `W` at run time and saves one low-rank product per layer; only for a single adapter
            on unquantised weights that no other module shares. The saved file is the same.
        save_init (`bool`, *optional*, defaults to `True`): store `U0, S0, V0` too. `False` halves the file; they are then
            recomputed from the base weights at load, which costs the SVD again and needs an exact driver.
        init_weights (`bool` or `"checkpoint"`, *optional*, defaults to `True`): `True` initialises when the adapter is
            added; `"checkpoint"`, which saved configurations carry, waits for weights and initialises at first use if none
            came. There is no random initialisation.
        base_fingerprint (`dict[str, list[float]]`, *optional*): sum, Frobenius norm and tolerance of each adapted base
            weight, filled in at initialisation and compared at load. Set it to `None` to load onto another base on purpose.

    Example:

    ```python
    >>> from eigenhub.tuners.sorsa import SorsaConfig
    >>> config = SorsaConfig(r=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    ```
    """

    r: int = field(default=16, metadata={"help": "Rank."})
    alpha: float | None = field(default=None, metadata={"help": "Scale alpha / r; None means 1."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout on the input of the change."})
    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to adapt."})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave out."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules trained and saved in full."})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Layer indices to adapt."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "Name of the layer list."})
    rank_pattern: dict[str, int] = field(default_factory=dict, metadata={"help": "Ranks by module pattern."})
    alpha_pattern: dict[str, float] = field(default_factory=dict, metadata={"help": "Alphas by module pattern."})
    layer_replication: list[tuple[int, int]] | None = field(default=None, metadata={"help": "Shared layer ranges."})
    fan_in_fan_out: bool = field(default=False, metadata={"help": "Weights are stored as (in, out)."})
    reg_weight: float = field(default=0.2, metadata={"help": "Weight of the orthonormality penalty."})
    reg_eps: float = field(default=1e-3, metadata={"help": "Smoothing of each norm in the penalty."})
    reg_reduction: Literal["mean", "sum"] = field(default="mean", metadata={"help": "Reduction over matrices."})
    reg_in_forward: bool = field(default=False, metadata={"help": "Add the penalty to outputs.loss (raw loops)."})
    svd_driver: str = field(default="auto", metadata={"help": "auto, full, gram or randomized."})
    svd_niter: int = field(default=6, metadata={"help": "Krylov steps of the randomized driver."})
    svd_oversample: int = field(default=32, metadata={"help": "Extra columns of the randomized driver."})
    seed: int = field(default=0, metadata={"help": "Seed of the randomized driver."})
    svd_cache: str | None = field(default=None, metadata={"help": "Precomputed factors: file, folder or Hub id."})
    mode: Literal["delta", "residual"] = field(default="delta", metadata={"help": "Run-time form of the layer."})
    save_init: bool = field(default=True, metadata={"help": "Store the initial factors."})
    init_weights: bool | Literal["checkpoint"] = field(default=True, metadata={"help": "True or 'checkpoint'."})
    base_fingerprint: dict[str, list[float]] | None = field(
        default_factory=dict, metadata={"help": "Sum and norm of each adapted base weight."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = EigenhubPeftType.SORSA
        self.svd_driver = DRIVER_ALIASES.get(self.svd_driver, self.svd_driver)
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), list | tuple):
                setattr(self, name, set(value))
        self._check_choices()
        self._check_ranges()
        self._check_targets()

    def _check_choices(self) -> None:
        choices = {
            "svd_driver": SVD_DRIVERS,
            "reg_reduction": ("mean", "sum"),
            "mode": ("delta", "residual"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.init_weights is not True and self.init_weights != "checkpoint":
            raise ValueError(
                f"`init_weights` must be True or 'checkpoint', got {self.init_weights!r}: SORSA starts from the weight's "
                "own singular triple, a random start is another method"
            )
        if self.svd_driver == "randomized" and not self.save_init:
            raise ValueError(
                "`save_init=False` rebuilds U0, S0, V0 from the base weights at load, which needs an exact driver: use "
                "`svd_driver='auto'`, 'gram' or 'full', or keep `save_init=True`"
            )

    def _check_ranges(self) -> None:
        for name, rank in {"r": self.r, **{f"rank_pattern[{k!r}]": v for k, v in self.rank_pattern.items()}}.items():
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {rank!r}")
        for name, alpha in {
            "alpha": self.alpha,
            **{f"alpha_pattern[{k!r}]": v for k, v in self.alpha_pattern.items()},
        }.items():
            if alpha is not None and not alpha > 0:
                raise ValueError(f"`{name}` must be positive (or None for scale 1), got {alpha!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got {self.dropout!r}")
        for name in ("reg_weight", "reg_eps", "svd_niter", "svd_oversample"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)!r}")

    def _check_targets(self) -> None:
        if isinstance(self.target_modules, str):
            for name in ("layers_to_transform", "layers_pattern"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"`{name}` cannot be used when `target_modules` is a string ({self.target_modules!r})"
                    )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("`layers_pattern` needs `layers_to_transform`")

    def to_dict(self) -> dict:
        """The dictionary that is saved: it tells a loader to wait for weights instead of repeating the SVD.

        Choices of one run (`mode`, a local `svd_cache`) are not part of the adapter and are saved as their defaults.
        """
        return {**super().to_dict(), "init_weights": "checkpoint", "mode": "delta", "svd_cache": None}
