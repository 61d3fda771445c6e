# SPDX-License-Identifier: Apache-2.0
"""Settings of S5 and of S5-PTD, which differ in `init` alone."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from eigenhub.models.state_space.configuration_state_space import HIPPO_INITS, StateSpaceConfig


@strict
class S5Config(StateSpaceConfig):
    """Configuration of an S5 model; `init="ptd"` makes it S5-PTD, `init="legs"` the original S5.

    The other settings are those of [`StateSpaceConfig`], the same for S4D.
    For the models of the papers set `bidirectional=True`, `norm_type="batch"` and, to the letter, `conj_sym="none"` (PTD),
    `clip_eigs=False`, `mask_padding=False`.

    Args:
        num_blocks (`int`, *optional*, defaults to 4): number of equal blocks J of the initial state matrix, each of order
            `state_size / num_blocks`.
        conj_sym (`str`, *optional*, defaults to `"half"`): `"half"` keeps one state of each conjugate pair, `"none"` all. The
            two compute the same if C is real at the start; the official initialisations draw a complex C.
        clip_eigs (`bool`, *optional*, defaults to `True`): keep the real parts of the eigenvalues below -1e-4.
        force_neg (`bool`, *optional*, defaults to `False`): use minus the absolute value of the real parts.
        dt_tying (`str`, *optional*, defaults to `"state"`): a time step of its own for every `"state"`, as in the official
            code, for every `"block"`, which keeps the structure that the theorem is about, or one for the `"layer"`.
        c_init (`str`, *optional*, defaults to `"trunc_standard_normal"`): `"trunc_standard_normal"` (standard deviation
            1/sqrt(P)), `"lecun_normal"` (1/sqrt(H P)), both in the basis of the state, or `"complex_normal"` (sqrt(1/2)) in
            the eigenbasis.
        b_init (`str`, *optional*, defaults to `"lecun_normal"`): `"lecun_normal"` (1/sqrt(P)) or `"hippo"`, the column of
            HiPPO for every feature.
        activation (`str`, *optional*, defaults to `"half_glu1"`): `"full_glu"`, `"half_glu1"`, `"half_glu2"` or `"gelu"`.
        scan_backend (`str`, *optional*, defaults to `"auto"`): see [`~eigenhub.linalg.scan.diagonal_ssm`].

    Example:

    ```python
    >>> from eigenhub.models.s5_ptd import S5Config
    >>> config = S5Config(hidden_size=64, state_size=64, num_blocks=2, init="lowrank")
    >>> config.num_states, config.ptd_info["max_re"] < 0
    (32, True)
    ```

    Reference: "Robustifying State-space Models for Long Sequences via Approximate Diagonalization" (arXiv 2310.01698);
    Smith et al., "Simplified State Space Layers for Sequence Modeling" (arXiv 2208.04933).
    """

    model_type = "s5_ptd"
    token_bias = True

    num_blocks: int = 4
    conj_sym: Literal["half", "none"] = "half"
    clip_eigs: bool = True
    force_neg: bool = False
    dt_tying: Literal["state", "block", "layer"] = "state"
    c_init: Literal["trunc_standard_normal", "lecun_normal", "complex_normal"] = "trunc_standard_normal"
    b_init: Literal["lecun_normal", "hippo"] = "lecun_normal"
    activation: Literal["full_glu", "half_glu1", "half_glu2", "gelu"] = "half_glu1"
    scan_backend: Literal["auto", "fused", "reference", "associative"] = "auto"

    @property
    def system_size(self) -> int:
        """Order of one block of the initial state matrix."""
        return self.state_size // self.num_blocks

    @property
    def halved(self) -> bool:
        """Whether one state stands for each conjugate pair."""
        return self.conj_sym == "half"

    @property
    def num_states(self) -> int:
        """Number of complex states P of a layer."""
        return self.num_blocks * self.states_per_system

    def validate_sizes(self) -> None:
        """Raise `ValueError` for blocks that do not divide the state, besides the common rules."""
        if self.num_blocks < 1 or self.state_size % self.num_blocks:
            raise ValueError(f"`num_blocks` must divide `state_size`, got {self.num_blocks} and {self.state_size}")
        super().validate_sizes()

    def validate_choices(self) -> None:
        """Raise `ValueError` for settings that exclude each other."""
        if self.b_init == "hippo" and self.init not in HIPPO_INITS:
            raise ValueError(f"`b_init='hippo'` needs `init` to be one of {', '.join(HIPPO_INITS)}, got {self.init!r}")
        matrix: Any = self.ptd_perturbation
        if matrix is not None and isinstance(matrix[0][0], (list, tuple)) and self.halved:
            raise ValueError("a complex `ptd_perturbation` has no conjugate pairs to halve: set `conj_sym='none'`")
