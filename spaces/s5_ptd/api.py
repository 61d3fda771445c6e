# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch is loaded.
"""

import math
from typing import Any

import gradio as gr
from names import EMBEDDED_TEXT, FREQUENCIES, INITS, MATRICES, ORDERS
from PIL import Image

from eigenhub.hub.space_events import shown_to_visitor


def classify(
    image: Image.Image | None, amplitude: float = 0.3, frequency: str = "legs", model: str = ""
) -> dict[str, Any]:
    """Classify a digit as a sequence of 256 pixels, with noise of a single frequency on the input of every layer.

    Args:
        image: A light digit on a dark ground; it is averaged to 8 x 8 pixels, each of which is then repeated.
        amplitude: Amplitude of the noise, from 0 to 2; the pixels lie between -1 and 1.
        frequency: Frequency of the noise: "legs" and "ptd" (where that initialisation is loudest beside HiPPO) or "low".
        model: A further classifier of the S5 or S4D family, by Hub id or folder; empty for none.

    Returns:
        Probabilities by class for each initialisation ("legs", "ptd", "lowrank", and "other" if a model is named), mean over
        16 draws of the noise, and the frequency of the noise.
    """
    from classifiers import frequency as frequency_of
    from classifiers import load_classifier, probabilities
    from pictures import digit_from_image

    if image is None:
        raise gr.Error("Choose a digit or draw one first.")
    check_choice("frequency", frequency, FREQUENCIES)
    if not 0 <= amplitude <= 2:
        raise gr.Error(f"The amplitude must be between 0 and 2, got {amplitude}.")
    digit, omega = digit_from_image(image), frequency_of(frequency)
    other = (model or "").strip()
    named = {init: init for init in INITS} | ({"other": other} if other else {})
    answers: dict[str, Any] = {}
    for key, name in named.items():
        classifier = load_classifier(name)
        with shown_to_visitor(f"{name} cannot classify the digit"):
            answers[key] = probabilities(classifier, digit, float(amplitude), omega)
    return answers | {"omega": omega}


def transfer(order: int = 32) -> dict[str, Any]:
    """Tell how loud each initialisation is beside exact HiPPO, by frequency. Exact mathematics, nothing is trained.

    Args:
        order: Number of states: 8, 16, 32 or 64.

    Returns:
        The frequencies, the gain of each initialisation there, its largest gain and the frequency of that.
    """
    check_choice("order", int(order), ORDERS)
    from transfer_figure import LINES, frequency_grid, relative_gain

    grid = frequency_grid(int(order))
    gains = {init: relative_gain(init, int(order), grid) for init in LINES}
    return {
        "frequencies": grid.tolist(),
        "gains": {init: gain.tolist() for init, gain in gains.items()},
        "largest": {init: gain.max().item() for init, gain in gains.items()},
        "at": {init: grid[gain.argmax()].item() for init, gain in gains.items()},
    }


def pseudospectrum(matrix: str = "hippo", order: int = 16) -> dict[str, Any]:
    """Measure how far a small change of a state matrix moves its eigenvalues.

    Args:
        matrix: "hippo" (HiPPO itself), "legs" (its normal part), "ptd" or "lowrank" (perturbed).
        order: Number of states: 8, 16, 32 or 64.

    Returns:
        Eigenvalues (as pairs of real and imaginary part), condition number of the eigenvectors (null if infinite), and on a
        grid of points the decadic logarithm of the smallest change of the matrix that makes the point an eigenvalue.
    """
    check_choice("matrix", matrix, MATRICES)
    check_choice("order", int(order), ORDERS)
    import pseudo_figure

    found = pseudo_figure.pseudospectrum(matrix, int(order))
    return {
        "eigenvalues": [[value.real, value.imag] for value in found.eigenvalues.tolist()],
        "kappa": found.kappa if math.isfinite(found.kappa) else None,
        "real": found.real.tolist(),
        "imaginary": found.imaginary.tolist(),
        "log_distance": found.log_distance.tolist(),
    }


def generate(
    prompt: str, max_new_tokens: int = 256, temperature: float = 0.7, model: str = EMBEDDED_TEXT, seed: int = 0
) -> dict[str, Any]:
    """Continue a prompt with a language model whose memory does not grow.

    Args:
        prompt: What the model continues.
        max_new_tokens: Tokens to write, from 1 to 2048; bytes for the embedded model.
        temperature: Of the draws; 0 takes the likeliest token each time.
        model: "embedded:python", or a language model of the S5 or S4D family by Hub id or folder.
        seed: Of the draws.

    Returns:
        The text, and measured while it was written, piece by piece: tokens so far, bytes of the state, seconds per token, and
        the bytes that keys and values of a transformer of the same width and depth would take.
    """
    from writers import write

    if not prompt:
        raise gr.Error("Write a prompt first.")
    if not 1 <= max_new_tokens <= 2048:
        raise gr.Error(f"The number of tokens must be between 1 and 2048, got {max_new_tokens}.")
    if temperature < 0:
        raise gr.Error(f"The temperature must not be negative, got {temperature}.")
    with shown_to_visitor("The prompt cannot be continued"):
        found = write(
            (model or "").strip() or EMBEDDED_TEXT, prompt, int(max_new_tokens), float(temperature), int(seed)
        )
    return vars(found)


def check_choice(name: str, value: Any, allowed: Any) -> None:
    """A message for the visitor where a value is none of those that exist."""
    if value not in allowed:
        raise gr.Error(f"The {name} must be one of {', '.join(map(str, allowed))}, got {value!r}.")
