# SPDX-License-Identifier: Apache-2.0
"""Settings of S4D and of S4-PTD, which differ in `init` alone."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from eigenhub.models.state_space.configuration_state_space import Init, StateSpaceConfig


@strict
class S4DConfig(StateSpaceConfig):
    """Configuration of an S4D model; `init="legs"` is S4D-LegS, `"lin"` S4D-Lin, `"inv"` S4D-Inv, `"ptd"` S4-PTD.

    The other settings are those of [`StateSpaceConfig`], the same for S5;
    `state_size` is N, which counts both halves of the conjugate pairs.

    Args:
        state_size (`int`, *optional*, defaults to 64): N, even.
        init (`str`, *optional*, defaults to `"legs"`): see [`StateSpaceConfig`].
        discretization (`str`, *optional*, defaults to `"zoh"`): `"zoh"`, `"bilinear"`, or `"dss"`, whose kernel depends on the
            length of the sequence, so that it has no state to carry.
        dt_transform (`str`, *optional*, defaults to `"exp"`): what makes a time step of the stored number: `"exp"` or
            `"softplus"`.
        dt_per_state (`bool`, *optional*, defaults to `False`): a time step for every state instead of every channel.
        real_transform (`str`, *optional*, defaults to `"exp"`): minus this of the stored number is the real part of an
            eigenvalue: `"exp"`, `"relu"` (plus 1e-4), `"softplus"`, `"sigmoid"` or `"none"`.
        imag_transform (`str`, *optional*, defaults to `"none"`): minus this of the stored number is the imaginary part.
        n_ssm (`int`, *optional*): number of different (A, B), shared in turn by the channels; one per channel if not given.
        final_activation (`str`, *optional*, defaults to `"glu"`): gated linear unit after the channels are mixed, or `"id"`.
        train_B (`bool`, *optional*, defaults to `True`): train B; it enters as its product with C alone.
        ssm_lr (`float`, *optional*, defaults to 0.001): learning rate of A, B and the time steps in [`s4d_param_groups`];
            0 freezes them.
        bandlimit (`float`, *optional*): silence states of more than `bandlimit / 2` turns per step.
        conv_backend (`str`, *optional*, defaults to `"auto"`): `"fft"`, `"chunk"` or `"reference"`, see
            [`~eigenhub.linalg.siso.siso_ssm`].

    Example:

    ```python
    >>> from eigenhub.models.s4d import S4DConfig
    >>> S4DConfig(hidden_size=64, state_size=64, init="diag-lin").init
    'lin'
    ```

    Reference: Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models" (arXiv 2206.11893);
    for S4-PTD arXiv 2310.01698.
    """

    model_type = "s4d"

    state_size: int = 64
    init: Init = "legs"
    discretization: Literal["zoh", "bilinear", "dss"] = "zoh"  # type: ignore[assignment]  # one more than S5 has
    dt_transform: Literal["exp", "softplus"] = "exp"
    dt_per_state: bool = False
    real_transform: Literal["exp", "relu", "softplus", "sigmoid", "none"] = "exp"
    imag_transform: Literal["exp", "relu", "softplus", "sigmoid", "none"] = "none"
    n_ssm: int | None = None
    final_activation: Literal["glu", "id"] = "glu"
    train_B: bool = True
    ssm_lr: float | int = 1e-3
    bandlimit: float | int | None = None
    conv_backend: Literal["auto", "fft", "chunk", "reference"] = "auto"

    @property
    def final_norm_type(self) -> str:
        """Norm after the last layer: the residual stream of a prenorm model has none otherwise."""
        return self.norm_type if self.prenorm else "none"

    @property
    def has_state(self) -> bool:
        """Whether there is a state that can be carried from one piece of a sequence to the next."""
        return super().has_state and self.discretization != "dss"

    @property
    def num_systems(self) -> int:
        """Number of different (A, B)."""
        return self.hidden_size if self.n_ssm is None else self.n_ssm

    def validate_sizes(self) -> None:
        """Raise `ValueError` for an odd state or systems that do not divide the channels, besides the common rules."""
        super().validate_sizes()
        if self.state_size % 2:
            raise ValueError(f"`state_size` must be even, got {self.state_size}")
        if self.n_ssm is not None and (self.n_ssm < 1 or self.hidden_size % self.n_ssm):
            raise ValueError(f"`n_ssm` must divide `hidden_size`, got {self.n_ssm} and {self.hidden_size}")
        if not self.ssm_lr >= 0:
            raise ValueError(f"`ssm_lr` must not be negative, got {self.ssm_lr}")
        if self.bandlimit is not None and not self.bandlimit > 0:
            raise ValueError(f"`bandlimit` must be positive, got {self.bandlimit}")

    def validate_choices(self) -> None:
        """Raise `ValueError` for settings that exclude each other."""
        matrix: Any = self.ptd_perturbation
        if matrix is not None and isinstance(matrix[0][0], (list, tuple)):
            raise ValueError("`ptd_perturbation` must be real: S4D keeps one state of each conjugate pair")
        if self.discretization == "dss" and self.conv_backend not in ("auto", "fft"):
            raise ValueError(f"`discretization='dss'` needs `conv_backend` 'auto' or 'fft', got {self.conv_backend!r}")
