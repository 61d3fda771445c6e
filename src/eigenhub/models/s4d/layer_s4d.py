# SPDX-License-Identifier: Apache-2.0
"""S4D as one layer for any network, and as what a block of the models holds."""

import math
from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eigenhub.models.s4d.configuration_s4d import S4DConfig
from eigenhub.models.s4d.official_names import rename_official_keys
from eigenhub.models.s4d.ssm_s4d import S4DSSM
from eigenhub.models.state_space.dropout import SequenceDropout
from eigenhub.models.state_space.padding import check_mask


class S4DLayer(nn.Module):
    r"""S4D: a diagonal system for every channel, GELU, and a linear map that mixes the channels with a gate.

    Takes `(batch, length, features)` and returns the same shape. Its `load_state_dict` also understands the names of the
    official minimal layer (`kernel.C`, `kernel.log_dt`, `kernel.log_A_real`, `kernel.A_imag`, `D`, `output_linear.0.weight`).

    Args:
        config (`S4DConfig`, *optional*): configuration.
        initialize (`bool`, *optional*, defaults to `True`): draw starting values now; the models do it later.
        options (`Any`): settings of [`S4DConfig`] in place of a configuration.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s4d import S4DLayer
    >>> layer = S4DLayer(hidden_size=8, state_size=16, init="lin")
    >>> u = torch.randn(2, 100, 8)
    >>> y = layer(u)
    >>> state = layer.initial_state(2)
    >>> outputs = []
    >>> for step in u.unbind(1):
    ...     output, state = layer.step(step, state)
    ...     outputs.append(output)
    >>> bool(torch.allclose(torch.stack(outputs, 1), y, atol=1e-5))
    True
    ```

    Reference: Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models" (arXiv 2206.11893).
    """

    def __init__(self, config: S4DConfig | None = None, *, initialize: bool = True, **options: Any) -> None:
        super().__init__()
        if config is not None and options:
            raise ValueError(f"give either `config` or settings of S4DConfig, got both: {', '.join(options)}")
        unknown = sorted(options.keys() - {field.name for field in fields(S4DConfig)})
        if unknown:
            raise ValueError(f"`options` must be settings of S4DConfig, got {', '.join(unknown)}")
        config = S4DConfig(**options) if config is None else config
        size = config.hidden_size
        self.config = config
        self.ssm = S4DSSM(config)
        self.dropout = SequenceDropout(config.hidden_dropout, config.tie_dropout)
        self.output_linear = nn.Linear(size, 2 * size if config.final_activation == "glu" else size)
        self.register_load_state_dict_pre_hook(_accept_official_names)
        if initialize:
            self.ssm.reset_parameters()

    def forward(
        self,
        u: Tensor,
        attention_mask: Tensor | None = None,
        state: Tensor | None = None,
        rate: float = 1.0,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run over a batch of sequences.

        Args:
            u (`Tensor` of shape `(batch, length, features)`): input.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps, pads on either side.
            state (`Tensor` of shape `(batch, features, states, 2)`, *optional*): state before the first step.
            rate (`float`, *optional*, defaults to 1.0): factor on the time steps: 2.0 for input at half the rate of training.
            return_state (`bool`, *optional*, defaults to `False`): also return the state after the last real step.

        Returns:
            `Tensor` of the shape of `u`, and with `return_state=True` the state.
        """
        size = self.config.hidden_size
        if u.ndim != 3 or u.shape[-1] != size:
            raise ValueError(f"`u` must have shape (batch, length, {size}), got {tuple(u.shape)}")
        if not 0 < rate < math.inf:
            raise ValueError(f"`rate` must be positive and finite, got {rate!r}")
        if self.config.bidirectional and (return_state or state is not None):
            raise ValueError("`state` and `return_state` need a causal layer, but `bidirectional=True`")
        mask = check_mask(attention_mask, u.shape[0], u.shape[1], continues=False)
        y, final, _ = self.run(u, mask, state, rate, return_state)
        return (y, final) if return_state else y  # type: ignore[return-value]

    def run(
        self,
        u: Tensor,
        mask: Tensor | None = None,
        state: Tensor | None = None,
        rate: float = 1.0,
        return_state: bool = False,
        return_states: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The same with a checked mask and three results, `None` where not asked for; see [`S4DSSM`]."""
        y, final, states = self.ssm(u, mask, state, rate, return_state, return_states)
        return self._mix(y), final, states

    def step(self, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step, at a cost that does not depend on what came before.

        Args:
            u_t (`Tensor` of shape `(batch, features)`): input of the step.
            state (`Tensor` of shape `(batch, features, states, 2)`): state before it.

        Returns:
            Output `(batch, features)` and the new state.
        """
        if not self.config.has_state:
            reason = "`bidirectional=True`" if self.config.bidirectional else "`discretization='dss'`"
            raise ValueError(f"`step` needs a layer that has a state, but {reason}")
        y, state = self.ssm.step(u_t, state)
        return self._mix(y[:, None])[:, 0], state

    def initial_state(self, batch: int) -> Tensor:
        """Zeros of shape `(batch, features, states, 2)`.

        Args:
            batch (`int`): number of sequences.
        """
        return torch.zeros(batch, *self.ssm.C.shape, dtype=torch.float32, device=self.ssm.C.device)

    def _mix(self, y: Tensor) -> Tensor:
        y = self.dropout(F.gelu(self.dropout(y)))
        y = self.output_linear(y)
        return F.glu(y, dim=-1) if self.config.final_activation == "glu" else y


def _accept_official_names(layer: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_official_keys(state_dict, prefix)


class S4DMixer(nn.Module):
    """What a block of S4D adds to its input.

    Args:
        config (`S4DConfig`): configuration.
    """

    def __init__(self, config: S4DConfig) -> None:
        super().__init__()
        self.layer = S4DLayer(config, initialize=False)

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        state: Tensor | None = None,
        time_deltas: Tensor | None = None,
        return_state: bool = False,
        return_states: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See [`S4DSSM`]; `time_deltas` are refused by the model."""
        return self.layer.run(hidden_states, mask, state, 1.0, return_state, return_states)

    def noise_steps(self) -> Tensor:
        """Time step by which a test noise is clocked, `(features,)`."""
        steps = self.layer.ssm.step_sizes
        return steps if steps.ndim == 1 else steps.log().mean(1).exp()
