# SPDX-License-Identifier: Apache-2.0
"""Starting values of an S5 layer, in float64 on the CPU."""

import torch
from torch import Tensor

from eigenhub.models.s5_ptd.configuration_s5_ptd import S5Config
from eigenhub.models.state_space.arithmetic import pair_of
from eigenhub.models.state_space.initial_system import InitialSystem
from eigenhub.models.state_space.initialization import log_uniform, truncated_normal


def initial_tensors(config: S5Config) -> dict[str, Tensor]:
    """One draw of every parameter and buffer of an S5 layer, by name.

    Args:
        config (`S5Config`): configuration.
    """
    system, blocks = config.initial_system(), config.num_blocks
    if system.eigenvalues.real.max() >= 0:
        raise ValueError(
            f"the state matrix of `init={config.init!r}`, `ptd_method={config.ptd_method!r}` is unstable: an eigenvalue has the "
            f"real part {system.eigenvalues.real.max().item():g}"
        )
    groups = {"state": config.num_states, "block": blocks, "layer": 1}[config.dt_tying]
    tensors = {
        "Lambda_re": system.eigenvalues.real.repeat(blocks),
        "Lambda_im": system.eigenvalues.imag.repeat(blocks),
        "B": pair_of(_input_map(config, system)),
        "C": pair_of(_output_map(config, system)),
        "D": torch.randn(config.hidden_size, dtype=torch.float64),
        "log_step": log_uniform((groups,), config.dt_min, config.dt_max),
        "state_weight": system.weight.repeat(blocks),
    }
    if config.bidirectional:
        tensors["C_backward"] = pair_of(_output_map(config, system))
    return tensors


def _input_map(config: S5Config, system: InitialSystem) -> Tensor:  # [P, H], complex
    n, features = config.system_size, config.hidden_size
    if config.b_init == "hippo" and system.b is not None:
        b = system.b.repeat(config.num_blocks)[:, None].expand(-1, features)
    else:
        b = truncated_normal((config.state_size, features), config.state_size**-0.5)
    return (system.v_inverse @ b.reshape(-1, n, features).to(system.v_inverse.dtype)).flatten(0, 1)


def _output_map(config: S5Config, system: InitialSystem) -> Tensor:  # [H, P], complex
    features, size = config.hidden_size, config.state_size
    if config.c_init == "complex_normal":
        return torch.randn(features, config.num_states, dtype=torch.complex128)  # 1/2 of the variance in either part
    std = size**-0.5 if config.c_init == "trunc_standard_normal" else (features * size) ** -0.5
    c = torch.view_as_complex(truncated_normal((features, size, 2), std))
    return (c.view(features, config.num_blocks, -1) @ system.v).flatten(1)
