# SPDX-License-Identifier: Apache-2.0
"""The systems of S4D: one of single input and single output for every channel."""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from eigenhub.linalg.discretization import discretize
from eigenhub.linalg.fft_convolution import fft_convolution
from eigenhub.linalg.powers import wide_dtype
from eigenhub.linalg.scan import diagonal_ssm
from eigenhub.linalg.siso import siso_bidirectional, siso_ssm
from eigenhub.linalg.siso_step import pair_product, siso_step
from eigenhub.linalg.ssm_kernel import s4d_kernel
from eigenhub.models.s4d.configuration_s4d import S4DConfig
from eigenhub.models.s4d.initialization_s4d import initial_tensors
from eigenhub.models.s4d.transforms_s4d import positive
from eigenhub.models.state_space.arithmetic import pair, scale_pairs
from eigenhub.models.state_space.cache import hold_states
from eigenhub.models.state_space.padding import real_spans, roll_rows, zero_pads
from eigenhub.models.state_space.precision import Float32Parameters
from eigenhub.models.state_space.remembered import RemembersWhileFrozen


class S4DSSM(Float32Parameters, RemembersWhileFrozen):
    r"""$x_k = \bar A x_{k-1} + \bar B u_k$, $y_k = 2\,\mathrm{Re}(C x_k) + D u_k$ in every channel.

    In both directions, the current step belongs to the forward one only, as in S4. Eigenvalues and time steps stay in
    float32, and all arithmetic is in float32, whatever the dtype of the rest.

    Args:
        config (`S4DConfig`): configuration.
    """

    float32_names = ("A_real", "A_imag", "inv_dt", "state_weight")
    A_real: Tensor
    A_imag: Tensor
    B: Tensor
    inv_dt: Tensor
    state_weight: Tensor

    def __init__(self, config: S4DConfig) -> None:
        super().__init__()
        self.config = config
        channels, systems, states = config.hidden_size, config.num_systems, config.states_per_system
        trained = config.ssm_lr > 0
        self._add("A_real", (systems, states), trained)
        self._add("A_imag", (systems, states), trained)
        self._add("B", (systems, states, 2), trained and config.train_B)
        self._add("inv_dt", (channels, states) if config.dt_per_state else (channels,), trained)
        self.C = nn.Parameter(torch.empty(channels, states, 2))
        self.C_backward = nn.Parameter(torch.empty(channels, states, 2)) if config.bidirectional else None
        self.D = nn.Parameter(torch.empty(channels))
        self.register_buffer("state_weight", torch.empty(states))

    def _add(self, name: str, shape: tuple[int, ...], trained: bool) -> None:
        """A parameter, or a buffer if it is frozen: `from_pretrained` makes every parameter trainable."""
        if trained:
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        else:
            self.register_buffer(name, torch.empty(shape))

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
        """Real and imaginary parts `(channels, states)` as the forward pass uses them, conjugates implied."""
        real = -positive(self.A_real, self.config.real_transform)
        imag = -positive(self.A_imag, self.config.imag_transform)
        return self._per_channel(real), self._per_channel(imag)

    @property
    def step_sizes(self) -> Tensor:
        """Time steps, `(channels,)` or `(channels, states)`."""
        return positive(self.inv_dt, self.config.dt_transform) * self.config.step_rescale

    def _per_channel(self, x: Tensor) -> Tensor:
        return x.repeat(self.config.hidden_size // len(x), *[1] * (x.ndim - 1))

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.A_real.dtype, torch.float32)

    def discrete(self, rate: float = 1.0, one_step: bool = False) -> tuple[Tensor, Tensor]:
        """Discrete eigenvalues and input map, both `(channels, states, 2)`.

        Args:
            rate (`float`, *optional*, defaults to 1.0): factor on the time steps.
            one_step (`bool`, *optional*, defaults to `False`): see [`RemembersWhileFrozen`].
        """
        parameters = (self.A_real, self.A_imag, self.B, self.inv_dt)
        settings = (rate, self.config.step_rescale, self.config.discretization)
        return self.remember("discrete", lambda: self._discretize(rate), parameters, *settings, one_step=one_step)

    def _discretize(self, rate: float) -> tuple[Tensor, Tensor]:
        wide = wide_dtype(self._dtype, self.A_real.device)
        step = self._step_columns(rate)
        method = "zoh" if self.config.discretization == "dss" else self.config.discretization
        lbar_re, lbar_im, gain_re, gain_im = discretize(*self.eigenvalues, step, method, dtype=wide)
        return pair(lbar_re, lbar_im), scale_pairs(gain_re, gain_im, self._per_channel(self.B).to(wide))

    def _step_columns(self, rate: float) -> Tensor:  # [channels, states or 1]
        step = self.step_sizes * rate
        return step if step.ndim == 2 else step[:, None]

    def output_maps(self, rate: float) -> list[Tensor]:
        """C of each direction as the kernels want it: they double every state, and a real eigenvalue has no partner.

        Args:
            rate (`float`): factor on the time steps, for the band limit.
        """
        scale = self.state_weight.to(self._dtype) / 2
        if self.config.bandlimit is not None:
            turns = self._step_columns(rate) * self.eigenvalues[1].abs() / (2 * math.pi)
            scale = scale * (turns <= self.config.bandlimit / 2)
        return [c.to(self._dtype) * scale[..., None] for c in (self.C, self.C_backward) if c is not None]

    def forward(
        self,
        u: Tensor,
        mask: Tensor | None = None,
        state: Tensor | None = None,
        rate: float = 1.0,
        return_state: bool = False,
        return_states: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Run the systems over a batch of sequences.

        Args:
            u (`Tensor` of shape `(batch, length, channels)`): input.
            mask (`Tensor` of shape `(batch, length)`, *optional*): True at real steps.
            state (`Tensor` of shape `(batch, channels, states, 2)`, *optional*): state before the first step.
            rate (`float`, *optional*, defaults to 1.0): factor on the time steps.
            return_state (`bool`, *optional*, defaults to `False`): return the state after the last real step.
            return_states (`bool`, *optional*, defaults to `False`): return the states at every step.

        Returns:
            `y (batch, length, channels)`, the final state and the states, `None` where not asked for.
        """
        if (return_state or return_states or state is not None) and self.config.discretization == "dss":
            raise ValueError("`discretization='dss'` has no state: call with `use_cache=False`, without states")
        with torch.autocast(u.device.type, enabled=False):
            u = zero_pads(u, mask)
            if self.config.bidirectional:
                return self._both_directions(u, rate), None, self._states(u, None, rate) if return_states else None
            if u.shape[1] == 1 and state is not None and not return_states:
                y, new = self.step(u[:, 0], state, rate)
                return y[:, None], hold_states(new, state, mask), None
            return self._causal(u, mask, state, rate, return_state, return_states)

    def step(self, u: Tensor, state: Tensor, rate: float = 1.0) -> tuple[Tensor, Tensor]:
        """One step, D included.

        Args:
            u (`Tensor` of shape `(batch, channels)`): input of the step.
            state (`Tensor` of shape `(batch, channels, states, 2)`): state before it.
            rate (`float`, *optional*, defaults to 1.0): factor on the time steps.
        """
        lbar, bbar = self.discrete(rate, one_step=True)
        y, state = siso_step(u, state, lbar, bbar, self.output_maps(rate)[0])
        return y + self.D.to(y.dtype) * u, state

    def _causal(
        self,
        u: Tensor,
        mask: Tensor | None,
        state: Tensor | None,
        rate: float,
        return_state: bool,
        return_states: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        first, lengths = None, None
        if mask is not None:
            first, lengths = real_spans(mask)
            if state is None:
                first = None  # leading zeros leave a zero state alone
            else:
                u, lengths = roll_rows(u, first), lengths - first
        y, final = self._convolve(u, state, lengths, rate, return_state)
        y = y + self.D.to(y.dtype) * u
        states = self._states(u, state, rate) if return_states else None
        if first is not None:
            y = roll_rows(y, -first)
            states = None if states is None else roll_rows(states, -first)
        return y, final, states

    def _convolve(
        self, u: Tensor, state: Tensor | None, lengths: Tensor | None, rate: float, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        if self._uses_fft(u) and state is None and not return_state and u.numel():
            return fft_convolution(u, self.kernel(u.shape[1], rate)[0]), None
        return siso_ssm(
            u,
            *self.discrete(rate),
            self.output_maps(rate)[0],
            initial_state=state,
            lengths=lengths if return_state else None,
            return_state=return_state,
            backend=self.config.conv_backend,
            chunk_size=self.config.chunk_size,
        )

    def _both_directions(self, u: Tensor, rate: float) -> Tensor:
        if u.numel() and self.config.conv_backend in ("auto", "fft"):
            y = fft_convolution(u, *self.kernel(u.shape[1], rate))
        else:
            backend, chunk = self.config.conv_backend, self.config.chunk_size
            maps = self.output_maps(rate)
            y = siso_bidirectional(u, *self.discrete(rate), *maps, backend=backend, chunk_size=chunk)
        return y + self.D.to(y.dtype) * u

    def _uses_fft(self, u: Tensor) -> bool:
        backend = self.config.conv_backend
        return backend == "fft" or self.config.discretization == "dss" or backend == "auto" and u.device.type != "cpu"

    def kernel(self, length: int, rate: float = 1.0) -> Tensor:
        """Convolution kernel of each direction, `(directions, channels, length)`, without D.

        Args:
            length (`int`): number of taps.
            rate (`float`, *optional*, defaults to 1.0): factor on the time steps.
        """
        parameters = [
            p for p in (self.A_real, self.A_imag, self.B, self.C, self.C_backward, self.inv_dt) if p is not None
        ]
        settings = (length, rate, self.config.step_rescale, self.config.discretization, self.config.bandlimit)
        return self.remember("kernel", lambda: self._kernel(length, rate), parameters, *settings)

    def _kernel(self, length: int, rate: float) -> Tensor:
        b = self._per_channel(self.B).to(self._dtype)
        coefficient = torch.stack([pair_product(b, c) for c in self.output_maps(rate)])
        step = self._step_columns(rate).expand_as(self.eigenvalues[0])
        return s4d_kernel(*self.eigenvalues, coefficient, step, length, method=self.config.discretization)

    def _states(self, u: Tensor, state: Tensor | None, rate: float) -> Tensor:
        """States at every step, by a scan over all states of all channels: for analysis, not for speed."""
        lbar, bbar = self.discrete(rate)
        channels, states, _ = lbar.shape
        eye = torch.eye(channels, dtype=bbar.dtype, device=bbar.device)
        full_b = (
            (eye[:, None, :, None] * bbar[:, :, None, :]).flatten(0, 1).to(self._dtype)
        )  # [all states, channels, 2]
        no_output = torch.zeros_like(full_b).transpose(0, 1)
        runs = []
        for reverse in (False, True) if self.config.bidirectional else (False,):
            *_, found = diagonal_ssm(
                u,
                lbar.flatten(0, 1),
                full_b,
                no_output,
                initial_state=None if state is None else state.flatten(1, 2),
                reverse=reverse,
                return_states=True,
            )
            runs.append(found.unflatten(2, (channels, states)))
        return torch.stack(runs, dim=2) if self.config.bidirectional else runs[0]

    def stats(self) -> dict[str, float]:
        """Extremes of time steps, real parts and moduli of the discrete eigenvalues."""
        with torch.no_grad():
            step, real = self.step_sizes, self.eigenvalues[0]
            lbar, _ = self.discrete()
            return {
                "min_dt": step.min().item(),
                "max_dt": step.max().item(),
                "max_real": real.max().item(),
                "max_modulus": torch.linalg.vector_norm(lbar, dim=-1).max().item(),
            }
