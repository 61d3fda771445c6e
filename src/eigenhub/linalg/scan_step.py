# SPDX-License-Identifier: Apache-2.0
"""One step of a diagonal state-space model, for generation and streaming."""

import torch
from torch import Tensor

from eigenhub.linalg.scan_checks import check_input, check_shape, check_system


def ssm_step(
    u: Tensor,
    state: Tensor,
    lbar: Tensor,
    bbar: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    *,
    state_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""One step $x \leftarrow \bar\lambda \odot x + \bar B u$, $y = \mathrm{Re}\sum_p w_p C_{:p} x_p + D \odot u$.

    Its cost is that of two small products and does not depend on what came before. Differentiable, in real arithmetic.

    Args:
        u (`Tensor` of shape `(batch, features)`): input of the step. Half precision is computed in float32 and `y`
            returned in its dtype.
        state (`Tensor` of shape `(batch, states, 2)`): state before the step.
        lbar (`Tensor` of shape `(states, 2)`): diagonal of the discrete state matrix.
        bbar (`Tensor` of shape `(states, features, 2)`): discrete input map.
        c (`Tensor` of shape `(features, states, 2)`): output map.
        d (`Tensor` of shape `(features,)`, *optional*): feedthrough; none if left out.
        state_weight (`Tensor` of shape `(states,)`, *optional*): weight of each state in the output; one if left out.

    Returns:
        `y (batch, features)` and the new state `(batch, states, 2)`, which is float32, or float64 for a float64 input.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.scan import ssm_step
    >>> lbar, bbar, c = torch.tensor([[0.5, 0.0]]), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    >>> state = torch.zeros(1, 1, 2)
    >>> for _ in range(3):
    ...     y, state = ssm_step(torch.ones(1, 1), state, lbar, bbar, c)
    >>> y.item()
    1.75
    ```
    """
    check_input(u, 2, "(batch, features >= 1)")
    _, states = check_system(u, lbar, bbar, c, d, state_weight)
    check_shape("state", state, (u.shape[0], states, 2), "(batch, states, 2)")
    work = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        x, (w_re, w_im) = u.to(work), bbar.to(work).unbind(-1)
        (x_re, x_im), (l_re, l_im) = state.to(work).unbind(-1), lbar.to(work).unbind(-1)
        new_re = l_re * x_re - l_im * x_im + x @ w_re.mT
        new_im = l_re * x_im + l_im * x_re + x @ w_im.mT
        c_re, c_im = (c.to(work) if state_weight is None else c.to(work) * state_weight.to(work)[:, None]).unbind(-1)
        y = new_re @ c_re.mT - new_im @ c_im.mT
        y = y if d is None else y + d.to(work) * x
    return y.to(u.dtype), torch.stack([new_re, new_im], dim=-1)
