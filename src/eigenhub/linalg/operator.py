# SPDX-License-Identifier: Apache-2.0
"""Python functions as operators of torch: opaque to `torch.compile` and autocast, with derivatives by formula."""

from collections.abc import Callable
from typing import Any

import torch


NAMESPACE = "eigenhub"


def define_operator(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    differentiate: Callable[..., Any] | None = None,
    keep: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """Register a function that neither changes nor returns its arguments, nor views of them.

    `torch.library.custom_op` does the same, but imports the compiler at the first call, more than a second. A number
    is added to a name that is taken: the code of a model may be loaded again from the Hub beside the package.

    Args:
        name (`str`): name inside the namespace of the package.
        schema (`str`): signature, as `(Tensor x, int n) -> Tensor`.
        kernel (`Callable`): the function itself.
        fake (`Callable`): the same for tensors without memory: shapes and dtypes only.
        differentiate (`Callable`, *optional*): `(context, *gradients)` to the gradients of the arguments; if left out,
            the operator is itself a derivative and asking for another one is an error.
        keep (`Callable`, *optional*): `(context, inputs, output)`, saves in the context what `differentiate` needs.

    Returns:
        The operator, to be called with positional arguments.
    """
    taken, free = 0, name
    while hasattr(getattr(torch.ops, NAMESPACE), free):
        taken, free = taken + 1, f"{name}_{taken + 1}"
    qualified = f"{NAMESPACE}::{free}"
    torch.library.define(qualified, schema)
    torch.library.impl(qualified, "default", kernel)
    torch.library.register_fake(qualified, fake)
    torch.library.register_autograd(qualified, differentiate or _refuse, setup_context=keep)
    return getattr(getattr(torch.ops, NAMESPACE), free).default


def _refuse(*args: Any) -> None:
    raise NotImplementedError("no second derivatives of this operation; choose a backend of plain torch operations")
