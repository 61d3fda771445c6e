# SPDX-License-Identifier: Apache-2.0
"""Parameter groups of S4D, and the factory that hands them to a `Trainer`."""

from typing import Any

import torch
from torch import nn

from eigenhub.models.state_space.parameter_groups import check_rates, make_groups


SSM_NAMES = ("A_real", "A_imag", "B", "inv_dt")
DEFAULT_SSM_LR = 1e-3


def s4d_param_groups(
    model: nn.Module, lr: float = 1e-2, ssm_lr: float | None = None, weight_decay: float = 0.05
) -> list[dict[str, Any]]:
    """Parameter groups of an S4D model or layer, for `torch.optim.AdamW`.

    A, B and the time steps learn at `ssm_lr` without weight decay, C and everything else at `lr` with it.

    Args:
        model (`nn.Module`): a model or an [`S4DLayer`], wrapped or not; frozen parameters are left out.
        lr (`float`, *optional*, defaults to 1e-2): learning rate.
        ssm_lr (`float`, *optional*): learning rate of the state space parameters; by default `config.ssm_lr` of the model, or
            1e-3 where it has none.
        weight_decay (`float`, *optional*, defaults to 0.05): weight decay.

    Returns:
        `list[dict]`: groups named `"ssm"` and `"regular"`, with the names of their parameters under `"members"`.

    Example:

    ```python
    >>> from eigenhub.models.s4d import S4DLayer, s4d_param_groups
    >>> groups = s4d_param_groups(S4DLayer(hidden_size=8, state_size=4))
    >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups]
    [('ssm', 0.001, 0.0), ('regular', 0.01, 0.05)]
    ```
    """
    if ssm_lr is None:
        rates = (getattr(getattr(module, "config", None), "ssm_lr", None) for module in model.modules())
        ssm_lr = next((rate for rate in rates if rate is not None), DEFAULT_SSM_LR)
    check_rates(lr=lr, ssm_lr=ssm_lr, weight_decay=weight_decay)
    options = {
        "ssm": {"lr": ssm_lr, "weight_decay": 0.0},
        "regular": {"lr": lr, "weight_decay": weight_decay},
    }
    return make_groups(model, "ssm", dict.fromkeys(SSM_NAMES, "ssm"), options, rest="regular")


class S4DAdamW:
    """AdamW on the groups of [`s4d_param_groups`], for `Trainer(optimizer_cls_and_kwargs=(S4DAdamW, {...}))`.

    Example:

    ```python
    >>> from eigenhub.models.s4d import S4DAdamW, S4DLayer
    >>> optimizer = S4DAdamW()(S4DLayer(hidden_size=8, state_size=4), lr=1e-2, weight_decay=0.01)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.001, 0.01]
    ```
    """

    def __call__(
        self,
        model: nn.Module,
        lr: float = 1e-2,
        ssm_lr: float | None = None,
        weight_decay: float = 0.05,
        **kwargs: Any,
    ) -> torch.optim.AdamW:
        """The optimizer.

        Args:
            model (`nn.Module`): what is trained.
            lr (`float`, *optional*, defaults to 1e-2): see [`s4d_param_groups`].
            ssm_lr (`float`, *optional*): see [`s4d_param_groups`].
            weight_decay (`float`, *optional*, defaults to 0.05): see [`s4d_param_groups`].
            kwargs (`Any`): further options of `torch.optim.AdamW`, such as `betas`.
        """
        return torch.optim.AdamW(s4d_param_groups(model, lr, ssm_lr, weight_decay), lr=lr, **kwargs)
