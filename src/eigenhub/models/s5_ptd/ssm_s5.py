# SPDX-License-Identifier: Apache-2.0
"""The S5 layer: one diagonal system with as many inputs and outputs as there are features."""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from eigenhub.linalg.discretization import discretize
from eigenhub.linalg.powers import wide_dtype
from eigenhub.linalg.scan import diagonal_ssm, reversed_deltas, ssm_step, variable_ssm
from eigenhub.models.s5_ptd.configuration_s5_ptd import S5Config
from eigenhub.models.s5_ptd.initialization_s5 import initial_tensors
from eigenhub.models.state_space.arithmetic import pair, scale_pairs
from eigenhub.models.state_space.cache import hold_states
from eigenhub.models.state_space.padding import inside_spans, real_spans, roll_rows, zero_pads
from eigenhub.models.state_space.precision import Float32Parameters
from eigenhub.models.state_space.remembered import RemembersWhileFrozen


LARGEST_REAL_PART = -1e-4


class S5SSM(Float32Parameters, RemembersWhileFrozen):
    r"""$x_k = \bar\Lambda x_{k-1} + \bar B u_k$, $y_k = \mathrm{Re}(w C x_k) + D u_k$, in one direction or in both.

    Eigenvalues and time steps stay in float32 and the scan runs in float32, whatever the dtype of the rest.

    Args:
        config (`S5Config`): configuration.
    """

    float32_names = ("Lambda_re", "Lambda_im", "log_step", "state_weight")
    state_weight: Tensor

    def __init__(self, config: S5Config) -> None:
        super().__init__()
        self.config = config
        states, features = config.num_states, config.hidden_size
        groups = {"state": states, "block": config.num_blocks, "layer": 1}[config.dt_tying]
        self.Lambda_re = nn.Parameter(torch.empty(states))
        self.Lambda_im = nn.Parameter(torch.empty(states))
        self.B = nn.Parameter(torch.empty(states, features, 2))
        self.C = nn.Parameter(torch.empty(features, states, 2))
        self.C_backward = nn.Parameter(torch.empty(features, states, 2)) if config.bidirectional else None
        self.D = nn.Parameter(torch.empty(features))
        self.log_step = nn.Parameter(torch.empty(groups))
        self.register_buffer("state_weight", torch.empty(states))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw starting values for what no checkpoint has filled; nothing happens on the meta device."""
        if self.B.device.type == "meta":
            return
        with torch.device("cpu"):
            values = initial_tensors(self.config)
        for name, value in values.items():
            init.copy_(getattr(self, name), value)

    @property
    def eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts as the forward pass uses them."""
        real = self.Lambda_re.clamp(max=LARGEST_REAL_PART) if self.config.clip_eigs else self.Lambda_re
        return -real.abs() if self.config.force_neg else real, self.Lambda_im

    @property
    def step_sizes(self) -> Tensor:
        """Time step of each state."""
        states = len(self.Lambda_re)
        return self.log_step.exp().repeat_interleave(states // len(self.log_step)) * self.config.step_rescale

    @property
    def output_maps(self) -> list[Tensor]:
        """C of each direction."""
        return [self.C] if self.C_backward is None else [self.C, self.C_backward]

    def discrete(self, one_step: bool = False) -> tuple[Tensor, Tensor]:
        """Discrete state matrix `(P, 2)` and input map `(P, H, 2)`.

        Args:
            one_step (`bool`, *optional*, defaults to `False`): see [`RemembersWhileFrozen`].
        """
        parameters = (self.Lambda_re, self.Lambda_im, self.log_step, self.B)
        config = self.config
        settings = (config.step_rescale, config.discretization, config.clip_eigs, config.force_neg)
        return self.remember("discrete", self._discretize, parameters, *settings, one_step=one_step)

    def _discretize(self) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(self.Lambda_re.dtype, torch.float32)
        wide = wide_dtype(dtype, self.Lambda_re.device)
        method = self.config.discretization
        lbar_re, lbar_im, gain_re, gain_im = discretize(*self.eigenvalues, self.step_sizes, method, dtype=wide)
        gain_re, gain_im = gain_re.to(dtype)[:, None], gain_im.to(dtype)[:, None]
        return pair(lbar_re, lbar_im), scale_pairs(gain_re, gain_im, self.B.to(dtype))

    def forward(
        self,
        u: Tensor,
        mask: Tensor | None = None,
        state: Tensor | None = None,
        time_deltas: Tensor | None = None,
        return_state: bool = False,
        return_states: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Run the layer over a batch of sequences.

        Args:
            u (`Tensor` of shape `(batch, length, features)`): input.
            mask (`Tensor` of shape `(batch, length)`, *optional*): True at real steps.
            state (`Tensor` of shape `(batch, states, 2)`, *optional*): state before the first step.
            time_deltas (`Tensor` of shape `(batch, length)`, *optional*): gap before each step, 0 at pads.
            return_state (`bool`, *optional*, defaults to `False`): return the state after the last real step.
            return_states (`bool`, *optional*, defaults to `False`): return the states at every step.

        Returns:
            `y (batch, length, features)`, the final state and the states, `None` where not asked for.
        """
        with torch.autocast(u.device.type, enabled=False):
            u = zero_pads(u, mask)
            if u.shape[1] == 1 and state is not None and time_deltas is None and not return_states:
                return self._step(u, mask, state)
            if time_deltas is None:
                run = self._bidirectional if self.config.bidirectional else self._causal
                return run(u, mask, state, return_state, return_states)
            return self._irregular(u, mask, state, time_deltas, return_states)

    def _step(self, u: Tensor, mask: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor, None]:
        lbar, bbar = self.discrete(one_step=True)
        dtype = bbar.dtype
        y, new = ssm_step(
            u[:, 0], state, lbar.to(dtype), bbar, self.C.to(dtype), self.D.to(dtype), state_weight=self.state_weight
        )
        return y[:, None], hold_states(new, state, mask), None

    def _causal(
        self, u: Tensor, mask: Tensor | None, state: Tensor | None, return_state: bool, return_states: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        first, lengths = None, None
        if mask is not None and (return_state or state is not None):
            first, lengths = real_spans(mask)
            if state is None:
                first = None  # leading zeros leave a zero state alone
            else:
                u, lengths = roll_rows(u, first), lengths - first
        y, final, *states = self._scan(u, self.discrete(), self.C, self.D, state, lengths, False, return_states)
        if first is not None:
            y, states = roll_rows(y, -first), [roll_rows(s, -first) for s in states]
        return y, final, states[0] if states else None

    def _bidirectional(
        self, u: Tensor, mask: Tensor | None, state: Tensor | None, return_state: bool, return_states: bool
    ) -> tuple[Tensor, None, Tensor | None]:
        system, (c, c_backward) = self.discrete(), self.output_maps
        ahead, _, *states = self._scan(u, system, c, self.D, None, None, False, return_states)
        back, _, *back_states = self._scan(u, system, c_backward, None, None, None, True, return_states)
        return ahead + back, None, torch.stack([*states, *back_states], dim=2) if return_states else None

    def _scan(
        self,
        u: Tensor,
        system: tuple[Tensor, Tensor],
        c: Tensor,
        d: Tensor | None,
        state: Tensor | None,
        lengths: Tensor | None,
        reverse: bool,
        return_states: bool,
    ) -> tuple[Tensor, ...]:
        lbar, bbar = system
        dtype = bbar.dtype
        return diagonal_ssm(
            u,
            lbar,
            bbar,
            c.to(dtype),
            None if d is None else d.to(dtype),
            initial_state=state,
            state_weight=self.state_weight,
            lengths=lengths,
            reverse=reverse,
            backend=self.config.scan_backend,
            chunk_size=self.config.chunk_size,
            return_states=return_states,
        )

    def _irregular(
        self, u: Tensor, mask: Tensor | None, state: Tensor | None, time_deltas: Tensor, return_states: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        c, *others = self.output_maps
        y, final, *states = self._variable_scan(u, time_deltas, c, self.D, state, False, return_states)
        if not others:
            return y, final, states[0] if states else None
        after = reversed_deltas(time_deltas, None if mask is None else inside_spans(mask))
        back, _, *back_states = self._variable_scan(u, after, others[0], None, None, True, return_states)
        return y + back, None, torch.stack([*states, *back_states], dim=2) if return_states else None

    def _variable_scan(
        self,
        u: Tensor,
        deltas: Tensor,
        c: Tensor,
        d: Tensor | None,
        state: Tensor | None,
        reverse: bool,
        return_states: bool,
    ) -> tuple[Tensor, ...]:
        dtype = torch.promote_types(self.Lambda_re.dtype, torch.float32)
        return variable_ssm(
            u,
            deltas.to(dtype),
            pair(*self.eigenvalues),
            self.step_sizes,
            self.B.to(dtype),
            c.to(dtype),
            None if d is None else d.to(dtype),
            method=self.config.discretization,
            initial_state=state,
            state_weight=self.state_weight,
            reverse=reverse,
            return_states=return_states,
        )
