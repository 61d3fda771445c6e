# SPDX-License-Identifier: Apache-2.0
"""Settings that all state space models share."""

import hashlib
import json
import math
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from eigenhub.models.state_space.initial_system import (
    InitialSystem,
    formula_system,
    legs_system,
    perturbed_system,
    solve_perturbation,
)


Init = Literal[
    "ptd",
    "lowrank",
    "legs",
    "lin",
    "inv",
    "quad",
    "inv2",
    "real",
    "random",
    "imag-random",
    "real-random",
    "diag-lin",
    "diag-inv",
    "diag-real",
]
HIPPO_INITS = ("ptd", "lowrank", "legs")
PERTURBED_INITS = ("ptd", "lowrank")


@strict
class StateSpaceConfig(PreTrainedConfig):
    """Settings that S5 and S4D share; see [`S5Config`] and [`S4DConfig`].

    Args:
        hidden_size (`int`, *optional*, defaults to 128): number of features H.
        num_hidden_layers (`int`, *optional*, defaults to 6): number of layers.
        vocab_size (`int`, *optional*): number of tokens; 256 if `input_size` is not given either.
        input_size (`int`, *optional*): number of real values at each step, for sequences of values instead of tokens: 1 for
            a waveform, the number of channels for an image.
        state_size (`int`, *optional*, defaults to 128): size of the state before conjugate pairs are halved.
        init (`str`, *optional*, defaults to `"ptd"`): where the eigenvalues start. HiPPO-LegS perturbed, then diagonalised:
            `"ptd"`, or in closed form `"lowrank"`. Without its rank-one part: `"legs"` (S5, S4D-LegS). By formula: `"lin"`,
            `"inv"`, `"quad"`, `"inv2"`, `"real"` (S4D; the first two and `"real"` also under their official names with
            `"diag-"` in front). At random, for ablations: `"random"`, `"imag-random"`, `"real-random"`.
        ptd_method (`str`, *optional*, defaults to `"optimized"`): the perturbation of `init="ptd"`: `"optimized"`,
            `"lowrank"`, `"gaussian"` or `"given"`, see [`~eigenhub.linalg.hippo.ptd_diagonalize`].
        ptd_gamma (`float`, *optional*): weight of the size of the perturbation against the condition number; the solver's
            own default if not given.
        ptd_tau (`float`, *optional*, defaults to 0.1): size of the low-rank perturbation.
        ptd_steps (`int`, *optional*): steps of the solver; its own default if not given.
        ptd_seed (`int`, *optional*, defaults to 0): seed of the Gaussian perturbation and of the solver.
        ptd_delta (`float`, *optional*, defaults to 0.001): relative size of the Gaussian perturbation.
        ptd_perturbation (`list`, *optional*): the matrix E of `ptd_method="given"`, `(n, n)`, or `(n, n, 2)` with real and
            imaginary parts.
        ptd_info (`dict`, *optional*): what the solver found (condition number, size of the perturbation, stability, number
            of real eigenvalues), filled in by the configuration itself and saved, so that loading needs no solver.
        b_scale (`float`, *optional*, defaults to 1.0): factor on HiPPO's input column: 0.5 makes `"legs"` agree with HiPPO at
            low frequencies, as the theory has it; 1.0 is what the official code does.
        discretization (`str`, *optional*, defaults to `"zoh"`): `"zoh"` or `"bilinear"`.
        dt_min (`float`, *optional*, defaults to 0.001): smallest time step at the start.
        dt_max (`float`, *optional*, defaults to 0.1): largest time step at the start; between the two log-uniform.
        step_rescale (`float`, *optional*, defaults to 1.0): factor on all time steps: 2.0 for a model of 16 kHz audio that
            reads 8 kHz.
        bidirectional (`bool`, *optional*, defaults to `False`): read the sequence from both ends.
        norm_type (`str`, *optional*, defaults to `"layer"`): `"layer"`, `"batch"` (over batch and time) or `"none"`.
        prenorm (`bool`, *optional*, defaults to `True`): norm before a layer instead of after its residual sum.
        bn_momentum (`float`, *optional*, defaults to 0.95): momentum of batch norm in flax's convention, one minus torch's.
        force_batch_norm (`bool`, *optional*, defaults to `False`): allow batch norm in a language model, where it leaks
            across time.
        residual (`bool`, *optional*, defaults to `True`): add the input of a layer to its output.
        hidden_dropout (`float`, *optional*, defaults to 0.0): dropout probability.
        tie_dropout (`bool`, *optional*, defaults to `True`): one dropout mask for all steps of a sequence.
        pooling (`str`, *optional*, defaults to `"mean"`): `"mean"` over the real steps or the `"last"` one, in classifiers.
        mask_padding (`bool`, *optional*, defaults to `True`): keep pads out of the layers; `False` is what the official
            code does, which masks in pooling only.
        chunk_size (`int`, *optional*): steps of a chunk of the scan; chosen by it if not given.
        use_cache (`bool`, *optional*, defaults to `True`): return the state in evaluation.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`): one matrix for embedding and language model head.
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of modules that no rule of the method
            covers.
        pad_token_id (`int`, *optional*): token of pads.
        bos_token_id (`int`, *optional*): token at the beginning.
        eos_token_id (`int` or `list[int]`, *optional*): token at the end.
    """

    keys_to_ignore_at_inference = ["past_key_values", "hidden_states", "ssm_states"]
    token_bias = False

    hidden_size: int = 128
    num_hidden_layers: int = 6
    vocab_size: int | None = None
    input_size: int | None = None
    state_size: int = 128
    init: Init = "ptd"
    ptd_method: Literal["optimized", "lowrank", "gaussian", "given"] = "optimized"
    ptd_gamma: float | int | None = None
    ptd_tau: float | int = 0.1
    ptd_steps: int | None = None
    ptd_seed: int = 0
    ptd_delta: float | int = 1e-3
    ptd_perturbation: list | None = None
    ptd_info: dict | None = None
    b_scale: float | int = 1.0
    discretization: Literal["zoh", "bilinear"] = "zoh"
    dt_min: float | int = 1e-3
    dt_max: float | int = 0.1
    step_rescale: float | int = 1.0
    bidirectional: bool = False
    norm_type: Literal["layer", "batch", "none"] = "layer"
    prenorm: bool = True
    bn_momentum: float | int = 0.95
    force_batch_norm: bool = False
    residual: bool = True
    hidden_dropout: float | int = 0.0
    tie_dropout: bool = True
    pooling: Literal["mean", "last"] = "mean"
    mask_padding: bool = True
    chunk_size: int | None = None
    use_cache: bool = True
    tie_word_embeddings: bool = False
    initializer_range: float | int = 0.02
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.vocab_size is None and self.input_size is None:
            self.vocab_size = 256
        self.init = self.init.removeprefix("diag-")  # type: ignore[assignment]
        # by name, before the solver runs; `@strict` runs them once more, and wraps what they raise
        self.validate_sizes()
        self.validate_perturbation()
        self.validate_choices()
        if self.init in PERTURBED_INITS:
            self.solved_info()
        else:
            self.ptd_info = None
        super().__post_init__(**kwargs)

    @property
    def system_size(self) -> int:
        """Order n of the state matrix that the eigenvalues come from."""
        return self.state_size

    @property
    def halved(self) -> bool:
        """Whether one state stands for each conjugate pair."""
        return True

    @property
    def final_norm_type(self) -> str:
        """Norm after the last layer."""
        return "none"

    @property
    def has_state(self) -> bool:
        """Whether there is a state that can be carried from one piece of a sequence to the next."""
        return not self.bidirectional

    @property
    def states_per_system(self) -> int:
        """Number of states that are kept of one system: real eigenvalues have no partner to leave out."""
        n = self.system_size
        if not self.halved:
            return n
        return (n + self.solved_info()["num_real"]) // 2 if self.init in PERTURBED_INITS else (n + 1) // 2

    @property
    def ptd_recipe(self) -> dict[str, Any]:
        """Keywords of the solver."""
        method = "lowrank" if self.init == "lowrank" else self.ptd_method
        used = {
            "optimized": ("gamma", "tau", "steps", "seed"),
            "lowrank": ("tau",),
            "gaussian": ("delta", "seed"),
            "given": (),
        }
        return {"method": method} | {name: getattr(self, f"ptd_{name}") for name in used[method]}

    @property
    def ptd_identity(self) -> dict[str, Any]:
        """Everything that the solution depends on, in JSON."""
        matrix = json.dumps(self.ptd_perturbation).encode()
        given = {"matrix": hashlib.sha256(matrix).hexdigest()[:16]} if self.ptd_method == "given" else {}
        return {"n": self.system_size} | self.ptd_recipe | given

    def solved_info(self) -> dict[str, Any]:
        """What the solver found for the present settings: from `ptd_info` if that belongs to them, else solved for now."""
        identity = self.ptd_identity
        if self.ptd_info is None or self.ptd_info.get("recipe") != identity:
            result = solve_perturbation(self.system_size, self.ptd_recipe, self.ptd_perturbation)
            num_real = int((result.lambda_.imag == 0).sum())
            figures = {name: float(value) for name, value in result.info.items()}
            self.ptd_info = {"recipe": identity, "num_real": num_real} | figures
        return self.ptd_info

    def initial_system(self) -> InitialSystem:
        """The system that every layer starts from."""
        n, half = self.system_size, self.halved
        if self.init == "legs":
            return legs_system(n, half, self.b_scale)
        if self.init not in PERTURBED_INITS:
            return formula_system(self.init, n, half)
        result = solve_perturbation(n, self.ptd_recipe, self.ptd_perturbation)
        system = perturbed_system(result, n, half, self.b_scale)
        if len(system.eigenvalues) != self.states_per_system:
            raise RuntimeError(
                f"the solver now finds {len(system.eigenvalues)} states where `ptd_info` of the configuration says "
                f"{self.states_per_system}: set `ptd_info=None` to start anew"
            )
        return system

    def validate_sizes(self) -> None:
        """Raise `ValueError` for a size, time step or probability out of range."""
        for name in ("hidden_size", "num_hidden_layers", "state_size"):
            _at_least_one(name, getattr(self, name))
        for name in ("vocab_size", "input_size", "chunk_size", "ptd_steps"):
            if getattr(self, name) is not None:
                _at_least_one(name, getattr(self, name))
        if self.vocab_size is not None and self.input_size is not None:
            raise ValueError(
                f"give either `vocab_size` or `input_size`, got {self.vocab_size} and {self.input_size}: a model reads tokens "
                "or values"
            )
        if not 0 < self.dt_min <= self.dt_max < math.inf:
            raise ValueError(
                f"`dt_min` and `dt_max` must be finite and 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}"
            )
        for name in ("step_rescale", "b_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.initializer_range < math.inf:
            raise ValueError(f"`initializer_range` must be finite and not negative, got {self.initializer_range}")
        for name in ("hidden_dropout", "bn_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {getattr(self, name)}")

    def validate_choices(self) -> None:
        """Raise `ValueError` for settings that exclude each other."""

    def validate_perturbation(self) -> None:
        """Raise `ValueError` for a perturbation that the solver cannot use."""
        if not 0 < self.ptd_tau <= 1:
            raise ValueError(f"`ptd_tau` must be above 0 and at most 1, got {self.ptd_tau}")
        for name in ("ptd_gamma", "ptd_delta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be positive and finite, got {value}")
        given = self.init == "ptd" and self.ptd_method == "given"
        if given != (self.ptd_perturbation is not None):
            raise ValueError(
                "`ptd_perturbation` must be given with `init='ptd'` and `ptd_method='given'`, and only then, got "
                f"`init={self.init!r}`, `ptd_method={self.ptd_method!r}` and "
                f"{'no matrix' if self.ptd_perturbation is None else 'a matrix'}"
            )
        n = self.system_size
        if self.init not in HIPPO_INITS and n % 2:
            raise ValueError(f"`init={self.init!r}` needs systems of even size, got {n}")
        if given:
            shape = _shape_of_numbers(self.ptd_perturbation)
            if shape not in ((n, n), (n, n, 2)):
                raise ValueError(f"`ptd_perturbation` must have shape ({n}, {n}) or ({n}, {n}, 2), got {shape}")


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}")


def _shape_of_numbers(nested: Any) -> tuple[int, ...]:
    try:
        values = torch.tensor(nested, dtype=torch.float64, device="cpu")
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"`ptd_perturbation` must be nested lists of numbers: {error}") from error
    if not torch.isfinite(values).all():
        raise ValueError("`ptd_perturbation` must be finite, got NaN or infinity")
    return tuple(values.shape)
