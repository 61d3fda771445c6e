# SPDX-License-Identifier: Apache-2.0
"""Parameter groups of S5, and the factory that hands them to a `Trainer`."""

from typing import Any, Literal, get_args

import torch
from torch import nn

from eigenhub.models.state_space.parameter_groups import check_rates, make_groups


OptConfig = Literal["standard", "BandCdecay", "BfastandCdecay", "noBCdecay"]
ALWAYS_SSM = ("Lambda_re", "Lambda_im")


def s5_param_groups(
    model: nn.Module,
    lr: float = 4e-3,
    ssm_lr: float = 1e-3,
    weight_decay: float = 0.05,
    opt_config: str = "standard",
    dt_global: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups of an S5 model, for `torch.optim.AdamW`.

    Eigenvalues and time steps learn at `ssm_lr` without weight decay, everything else at `lr` with it, norms and biases
    included, as in the official code. What `opt_config` decides:

    | opt_config | B | C, D |
    | --- | --- | --- |
    | `"standard"` | `ssm_lr` | `lr`, decay |
    | `"BandCdecay"` | `ssm_lr`, decay | `lr`, decay |
    | `"BfastandCdecay"` | `lr`, decay | `lr`, decay |
    | `"noBCdecay"` | `ssm_lr` | `ssm_lr` |

    Args:
        model (`nn.Module`): an S5 model, wrapped or not; frozen parameters are left out.
        lr (`float`, *optional*, defaults to 4e-3): learning rate; the papers give it as a multiple of `ssm_lr`.
        ssm_lr (`float`, *optional*, defaults to 1e-3): learning rate of the state space parameters.
        weight_decay (`float`, *optional*, defaults to 0.05): weight decay.
        opt_config (`str`, *optional*, defaults to `"standard"`): one of the above.
        dt_global (`bool`, *optional*, defaults to `False`): time steps at `lr` with weight decay.

    Returns:
        `list[dict]`: groups named `"ssm"`, `"ssm_decay"` and `"regular"`, with the names of their parameters under
        `"members"`.

    Example:

    ```python
    >>> from eigenhub.models.s5_ptd import S5Config, S5Model, s5_param_groups
    >>> model = S5Model(S5Config(hidden_size=8, state_size=8, num_blocks=1, num_hidden_layers=1))
    >>> [group["name"] for group in s5_param_groups(model, lr=3e-3, opt_config="BandCdecay")]
    ['ssm', 'ssm_decay', 'regular']
    ```
    """
    allowed = get_args(OptConfig)
    if opt_config not in allowed:
        raise ValueError(f"`opt_config` must be one of {', '.join(allowed)}, got {opt_config!r}")
    check_rates(lr=lr, ssm_lr=ssm_lr, weight_decay=weight_decay)
    b = {"BandCdecay": "ssm_decay", "BfastandCdecay": "regular"}.get(opt_config, "ssm")
    c = "ssm" if opt_config == "noBCdecay" else "regular"
    group_of = dict.fromkeys(ALWAYS_SSM, "ssm") | dict.fromkeys(("C", "C_backward", "D"), c)
    group_of |= {"B": b, "log_step": "regular" if dt_global else "ssm"}
    options = {
        "ssm": {"lr": ssm_lr, "weight_decay": 0.0},
        "ssm_decay": {"lr": ssm_lr, "weight_decay": weight_decay},
        "regular": {"lr": lr, "weight_decay": weight_decay},
    }
    return make_groups(model, "ssm", group_of, options, rest="regular")


class S5AdamW:
    """AdamW on the groups of [`s5_param_groups`], for `Trainer(optimizer_cls_and_kwargs=(S5AdamW, {...}))`.

    `Trainer` makes one without arguments and calls it with the model as it is wrapped for training; schedules scale each
    group from its own learning rate. From its own arguments `Trainer` hands nothing on: say `lr` here.

    Example:

    ```python
    >>> from eigenhub.models.s5_ptd import S5AdamW, S5Config, S5Model
    >>> model = S5Model(S5Config(hidden_size=8, state_size=8, num_blocks=1, num_hidden_layers=1))
    >>> optimizer = S5AdamW()(model, lr=4e-3, ssm_lr=1e-3, weight_decay=0.05)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.001, 0.004]
    ```
    """

    def __call__(
        self,
        model: nn.Module,
        lr: float = 4e-3,
        ssm_lr: float = 1e-3,
        weight_decay: float = 0.05,
        opt_config: str = "standard",
        dt_global: bool = False,
        **kwargs: Any,
    ) -> torch.optim.AdamW:
        """The optimizer.

        Args:
            model (`nn.Module`): what is trained.
            lr (`float`, *optional*, defaults to 4e-3): see [`s5_param_groups`].
            ssm_lr (`float`, *optional*, defaults to 1e-3): see [`s5_param_groups`].
            weight_decay (`float`, *optional*, defaults to 0.05): see [`s5_param_groups`].
            opt_config (`str`, *optional*, defaults to `"standard"`): see [`s5_param_groups`].
            dt_global (`bool`, *optional*, defaults to `False`): see [`s5_param_groups`].
            kwargs (`Any`): further options of `torch.optim.AdamW`, such as `betas`.
        """
        groups = s5_param_groups(model, lr, ssm_lr, weight_decay, opt_config, dt_global)
        return torch.optim.AdamW(groups, lr=lr, **kwargs)
