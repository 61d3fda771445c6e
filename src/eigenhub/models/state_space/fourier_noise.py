# SPDX-License-Identifier: Apache-2.0
"""A test noise of a single frequency: the one that a diagonal initialisation amplifies most, or any other."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.models.state_space.block import StateSpaceBlock


class FourierNoise:
    r"""Adds $a \, U \cos(w \Delta l)$ at step l, with one uniform U for each sequence and feature.

    The robustness test of the paper: the noise enters the layers, whose time step Δ clocks it, so that w is a frequency of
    the continuous system; the worst one for S4D-LegS of size n is `legs_frequencies(n)[0]`, about n²/π. Off unless you ask
    for it (the head of the official code adds such a term to every evaluation).

    Args:
        amplitude (`float`, *optional*, defaults to 0.1): a.
        frequency (`float`, *optional*, defaults to 325.42632): w; the default is the worst one for n = 32.
        seed (`int`, *optional*, defaults to 0): seed of U; every use starts from it.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s5_ptd import FourierNoise, S5Config, S5Model
    >>> noise = FourierNoise(amplitude=1.0)
    >>> noise(torch.zeros(2, 100, 3), steps=0.01).abs().max() <= 1
    tensor(True)
    >>> model = S5Model(S5Config(hidden_size=8, state_size=8, num_blocks=1, num_hidden_layers=2)).eval()
    >>> with noise.applied_to(model):
    ...     noisy = model(torch.arange(50)[None]).last_hidden_state
    ```

    Reference: "Robustifying State-space Models for Long Sequences via Approximate Diagonalization" (arXiv 2310.01698).
    """

    def __init__(self, amplitude: float = 0.1, frequency: float = 325.42632, seed: int = 0) -> None:
        for name, value in (("amplitude", amplitude), ("frequency", frequency)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"`{name}` must be finite and not negative, got {value!r}")
        self.amplitude, self.frequency, self.seed = amplitude, frequency, seed
        self._generator = torch.Generator()
        self.reset()

    def reset(self) -> None:
        """Start the sequence of random amplitudes anew."""
        self._generator.manual_seed(self.seed)

    def __call__(self, hidden_states: Tensor, steps: Tensor | float) -> Tensor:
        """The sequences with the noise added.

        Args:
            hidden_states (`Tensor` of shape `(batch, length, features)`): sequences.
            steps (`Tensor` of shape `(features,)` or `float`): time step Δ.
        """
        batch, length, features = hidden_states.shape
        height = torch.rand(batch, 1, features, generator=self._generator) * self.amplitude
        # the phase reaches thousands of radians: float64, then reduced by the cosine
        time = torch.arange(length, dtype=torch.float64)[:, None]
        steps = torch.as_tensor(steps, dtype=torch.float64).cpu()
        wave = torch.cos(time * (self.frequency * steps))  # [length, features] or [length, 1]
        return hidden_states + (height * wave).to(hidden_states)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[nn.Module]:
        """Inside the context, every layer of a model of this family gets noise on its input.

        Args:
            model (`nn.Module`): S5 or S4D, with or without a head.
        """
        mixers = [module.mixer for module in model.modules() if isinstance(module, StateSpaceBlock)]
        if not mixers:
            raise ValueError(f"`model` must hold state space layers, got {type(model).__name__}")

        def add(mixer: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            with torch.no_grad():
                steps = mixer.noise_steps()
            return (self(args[0], steps), *args[1:])

        handles = [mixer.register_forward_pre_hook(add) for mixer in mixers]
        self.reset()
        try:
            yield model
        finally:
            for handle in handles:
                handle.remove()
