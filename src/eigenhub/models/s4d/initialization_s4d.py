# SPDX-License-Identifier: Apache-2.0
"""Starting values of the systems of an S4D layer, in float64 on the CPU."""

import torch
from torch import Tensor

from eigenhub.models.s4d.configuration_s4d import S4DConfig
from eigenhub.models.s4d.transforms_s4d import SMALLEST, stored
from eigenhub.models.state_space.arithmetic import pair_of
from eigenhub.models.state_space.configuration_state_space import PERTURBED_INITS
from eigenhub.models.state_space.initial_system import InitialSystem
from eigenhub.models.state_space.initialization import log_uniform


def initial_tensors(config: S4DConfig) -> dict[str, Tensor]:
    """One draw of every parameter and buffer of the systems, by name.

    Args:
        config (`S4DConfig`): configuration.
    """
    systems, channels = config.num_systems, config.hidden_size
    # random eigenvalues differ between systems, all others are the same in each
    drawn = [config.initial_system() for _ in range(systems if "random" in config.init else 1)]
    values = torch.stack([system.eigenvalues for system in drawn]).expand(systems, -1)
    if not (values.real < 0).all():
        raise ValueError(
            f"the eigenvalues of `init={config.init!r}` must have negative real parts, got {values.real.max().item():g}"
        )
    states = values.shape[1]
    dt_shape = (channels, states) if config.dt_per_state else (channels,)
    dt = log_uniform(dt_shape, config.dt_min, config.dt_max).exp()
    if config.dt_transform == "softplus":
        dt = dt.clamp(min=SMALLEST)
    tensors = {
        "A_real": stored(-values.real, config.real_transform, "real_transform"),
        "A_imag": stored(-values.imag, config.imag_transform, "imag_transform"),
        "B": pair_of(_input_map(drawn[0])).expand(systems, -1, -1),
        "C": pair_of(_output_map(config, drawn[0])),
        "D": torch.randn(channels, dtype=torch.float64),
        "inv_dt": stored(dt, config.dt_transform, "dt_transform"),
        "state_weight": drawn[0].weight,
    }
    if config.bidirectional:
        tensors["C_backward"] = pair_of(_output_map(config, drawn[0]))
    return tensors


def _input_map(system: InitialSystem) -> Tensor:  # [states], complex
    if system.b is None:
        return torch.ones_like(system.eigenvalues)
    return system.v_inverse @ system.b.to(system.v_inverse.dtype)


def _output_map(config: S4DConfig, system: InitialSystem) -> Tensor:  # [channels, states], complex
    channels, states = config.hidden_size, len(system.eigenvalues)
    if config.init not in PERTURBED_INITS:
        return torch.randn(channels, states, dtype=torch.complex128)  # unit variance of both parts together
    c = torch.randn(channels, config.system_size, dtype=torch.float64)
    return c.to(system.v.dtype) @ system.v
