# SPDX-License-Identifier: Apache-2.0
"""Long convolutions along time by the FFT, causal and two-sided, without wrap-around."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eigenhub.linalg.autocast import without_autocast


# Numbers of a block that is transformed at once. On a CPU larger ones leave the cache and go through fresh pages each time,
# which doubles the time; an accelerator wants few, large launches.
CPU_BLOCK = 1 << 19
ACCELERATOR_BLOCK = 1 << 26
# Fewer neighbours than these would read parts of cache lines only.
LEAST_CHANNELS = 16


def fft_convolution(u: Tensor, kernel: Tensor, anticausal: Tensor | None = None) -> Tensor:
    r"""$y_t = \sum_{s \le t} K_{t-s} u_s + \sum_{s > t} K'_{s-t-1} u_s$ for every channel.

    The current step belongs to the causal kernel only. The transforms go block by block and are repeated in the backward
    pass, so that the memory is that of `u` and `y`, and on a CPU the time half of that of one large transform.

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): input. Half precision is computed in float32.
        kernel (`Tensor` of shape `(channels, taps)`): K; taps beyond `length` have no effect.
        anticausal (`Tensor` of shape `(channels, taps)`, *optional*): K', none by default.

    Returns:
        `Tensor` of shape `(batch, length, channels)` in the dtype of `u`, differentiable (once).

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.fft_convolution import fft_convolution
    >>> u = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1)
    >>> [round(v, 3) for v in fft_convolution(u, torch.tensor([[1.0, 0.5, 0.25]])).flatten().tolist()]
    [1.0, 0.5, 0.25]
    ```
    """
    kernels = [kernel] if anticausal is None else [kernel, anticausal]
    _check(u, kernels)
    dtype = torch.promote_types(u.dtype, torch.float32)
    length = u.shape[1]
    if u.numel() == 0:
        return u.clone()
    taps = [k.to(dtype)[:, :length] for k in kernels]
    size = fast_length(length + max(k.shape[1] for k in taps))
    circular = torch.nn.functional.pad(taps[0], (0, size - taps[0].shape[1]))
    if anticausal is not None:  # lag -1 is the last entry of a circle
        circular = circular + torch.nn.functional.pad(taps[1].flip(-1), (size - taps[1].shape[1], 0))
    with without_autocast(u.device):
        y: Tensor = CircularConvolution.apply(u.to(dtype), circular)
    return y.to(u.dtype)


def _check(u: Tensor, kernels: list[Tensor]) -> None:
    if u.ndim != 3 or not u.dtype.is_floating_point:
        raise ValueError(f"`u` must be real, of shape (batch, length, channels), got {u.dtype} of {tuple(u.shape)}")
    for name, kernel in zip(("kernel", "anticausal"), kernels, strict=False):
        if kernel.ndim != 2 or kernel.shape[0] != u.shape[2] or kernel.shape[1] == 0:
            raise ValueError(f"`{name}` must have shape ({u.shape[2]}, taps), got {tuple(kernel.shape)}")


def fast_length(n: int) -> int:
    """The smallest even number from `n` on whose prime factors are 2, 3 and 5, for which FFTs are quick.

    Args:
        n (`int`): least length, at least 1.
    """
    best = 1 << max(1, (n - 1).bit_length())
    five = 2
    while five < best:
        three = five
        while three < best:
            best = min(best, three << (-(-n // three) - 1).bit_length())
            three *= 3
        five *= 5
    return best


def blocks_of(u: Tensor, cpu_block: int) -> Iterator[tuple[slice, list[slice]]]:
    """Slices of the channels, each with the slices of the batch to do one after the other.

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): what is to be cut, not empty.
        cpu_block (`int`): about how many numbers a block may have on a CPU.
    """
    batch, length, channels = u.shape
    budget = cpu_block if u.device.type == "cpu" else ACCELERATOR_BLOCK
    width = min(channels, max(LEAST_CHANNELS, budget // length))
    rows = max(1, budget // (length * width))
    batches = [slice(start, start + rows) for start in range(0, batch, rows)]
    for start in range(0, channels, width):
        yield slice(start, start + width), batches


class CircularConvolution(torch.autograd.Function):
    """Circular convolution of zero-padded sequences with kernels of the padded length."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, kernel: Tensor) -> Tensor:
        """Keep the two arguments, no spectrum."""
        ctx.save_for_backward(u, kernel)
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        for channels, batches in blocks_of(u, CPU_BLOCK):
            response = torch.fft.rfft(kernel[channels])
            for rows in batches:
                _filter(u[rows, :, channels], response, y[rows, :, channels])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Correlations with the gradient of the output."""
        u, kernel = ctx.saved_tensors
        size = kernel.shape[-1]
        grad_u = torch.empty_like(u, memory_format=torch.contiguous_format)
        grad_kernel = torch.empty_like(kernel)
        for channels, batches in blocks_of(u, CPU_BLOCK):
            response = torch.fft.rfft(kernel[channels])
            correlation = torch.zeros_like(response)
            for rows in batches:
                spectrum = _filter(grad[rows, :, channels], response.conj(), grad_u[rows, :, channels])
                correlation += (spectrum * _spectrum(u[rows, :, channels], size).conj()).sum(0)
            grad_kernel[channels] = torch.fft.irfft(correlation, n=size)
        return grad_u, grad_kernel


def _filter(x: Tensor, response: Tensor, out: Tensor) -> Tensor:
    """Write the filtered `x (batch, length, channels)` to `out` and return the spectrum of `x`."""
    size = 2 * (response.shape[-1] - 1)
    spectrum = _spectrum(x, size)
    out.copy_(torch.fft.irfft(spectrum * response, n=size)[..., : x.shape[1]].transpose(1, 2))
    return spectrum


def _spectrum(x: Tensor, size: int) -> Tensor:
    return torch.fft.rfft(x.transpose(1, 2), n=size)  # [batch, channels, frequencies]
