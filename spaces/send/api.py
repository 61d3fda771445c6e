# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch and transformers are loaded.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from names import CALIBRATED_ON, TOLD
from settings import ScoreSettings, TrainSettings

from eigenhub.hub.space_events import shown_to_visitor


def score(
    prompt: str,
    model: str = TOLD,
    num_samples: int = 10,
    temperature: float = 0.5,
    top_p: float = 0.99,
    top_k: int = 10,
    max_new_tokens: int = 16,
    layer: str = "middle",
    token: str = "last",
    convention: str = "inside",
    seed: int = 0,
    calibration: dict | None = None,
) -> dict[str, Any]:
    """Ask a model the same thing several times and score how much its answers disagree inside.

    Args:
        prompt: What the model reads.
        model: "embedded:told", "embedded:base", a Hub id or a folder of a causal language model.
        num_samples: K, answers to draw, 2 to 30.
        temperature: Of sampling, 0.05 to 2.
        top_p: Of sampling.
        top_k: Of sampling; 0 for all tokens.
        max_new_tokens: Longest answer, 1 to 128.
        layer: "middle", "penultimate" or an index of the hidden states.
        token: "last", "mean" or "mean_last".
        convention: "inside", "inside_paper", "send" or "sample"; their scores cannot be compared.
        seed: Of sampling.
        calibration: What /calibrate gave, for a verdict; null for none.

    Returns:
        eigenscore, spectrum, greedy, answers (text, count, log_prob, tokens), the baselines, truth and verdict where they are
        known, settings, and judged: whether the calibration fits, and then threshold, above, less_certain and more_certain
        (shares of its prompts).
    """
    from computing import checked_calibration, judged, require_prompt, score_prompts

    settings = ScoreSettings(
        model, num_samples, temperature, top_p, top_k, max_new_tokens, layer, token, convention, seed
    )
    known = checked_calibration(calibration)
    (record,) = score_prompts(settings, [require_prompt(settings, prompt)])
    return {**record, "judged": judged(record, known)}


def calibrate(
    model: str = TOLD,
    prompts: list[str] | None = None,
    answers: list[str] | None = None,
    num_samples: int = 10,
    temperature: float = 0.5,
    top_p: float = 0.99,
    top_k: int = 10,
    max_new_tokens: int = 16,
    layer: str = "middle",
    token: str = "last",
    convention: str = "inside",
    seed: int = 0,
    by: str = "youden",
    quantile: float = 0.8,
    judge: str = "contains",
    questions: int = 240,
    kinds: list[str] | None = None,
) -> dict[str, Any]:
    """Set a threshold for one model, layer, convention, K and way of sampling.

    Args:
        model: "embedded:told", "embedded:base", a Hub id or a folder of a causal language model.
        prompts: 8 to 200 prompts; not for the embedded models, which have questions of their own.
        answers: The right answer to each prompt, if known.
        num_samples: K, answers to draw, 2 to 30.
        temperature: Of sampling, 0.05 to 2.
        top_p: Of sampling.
        top_k: Of sampling; 0 for all tokens.
        max_new_tokens: Longest answer, 1 to 128.
        layer: "middle", "penultimate" or an index of the hidden states.
        token: "last", "mean" or "mean_last".
        convention: "inside", "inside_paper", "send" or "sample".
        seed: Of sampling.
        by: "youden", where right answers are known and some are wrong, or "quantile".
        quantile: Share of the prompts that do not exceed the threshold, where it is a quantile.
        judge: When an answer is right: "exact", "contains" or "number".
        questions: Number of questions to an embedded model, 40 to 400.
        kinds: Of these: "known", "told", "paraphrase", "unknown", "stranger"; null for those of the page.

    Returns:
        threshold, by (what it was set by), youden_j, auroc of every score, num_prompts, num_wrong, rows (one per prompt),
        settings and revision.
    """
    from computing import calibrate as scored
    from computing import given_prompts, prompts_of

    settings = ScoreSettings(
        model, num_samples, temperature, top_p, top_k, max_new_tokens, layer, token, convention, seed
    )
    if settings.is_embedded:
        if prompts or answers:
            raise gr.Error("The embedded models have questions of their own: give kinds and questions, not prompts.")
        given = prompts_of(settings, questions, kinds or CALIBRATED_ON, None, None)
    else:
        with shown_to_visitor("These prompts cannot be used"):
            given = given_prompts(prompts or [], answers)
    *_, (_, found) = scored(settings, given, by, quantile, judge)
    return found or {}


def train(
    arm: str = "send",
    rho: float = 0.2,
    site: str = "hidden",
    window: int = 3,
    refresh_every: int = 3,
    epochs: int = 12,
    mask_in_eval: bool = False,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Tell the embedded model of new people, by plain training and by an arm; answers again after every epoch.

    Args:
        arm: "send", "random", "dropout" or "ema".
        rho: Share of the indices that is dropped, 0.05 to 0.6.
        site: "hidden", "mlp" or "update".
        window: C, epochs looked back over, 2 to 5.
        refresh_every: T, epochs that a mask lasts, 1 to 6.
        epochs: 4 to 20.
        mask_in_eval: Ask the questions with the mask on.
        seed: Order of the rows, random indices and dropout.

    Returns:
        epoch, epochs, finished, and for plain and arm: right, wrong and refused (shares, before training and after each
        epoch), flips, loss, seconds, refreshes (indices dropped), masked (epochs trained with a mask).
    """
    from computing import train_pair

    yield from train_pair(TrainSettings(arm, rho, site, window, refresh_every, epochs, mask_in_eval, seed))


def embeddings(rows: list[list[float]]) -> dict[str, Any]:
    """Score hidden states that you have already, in all four conventions.

    Args:
        rows: One list of numbers for each answer, all of the same length.

    Returns:
        conventions (eigenscore and spectrum of each), ees and shape.
    """
    from computing import checked_matrix, scores_of

    with shown_to_visitor("This matrix cannot be scored"):
        return scores_of(checked_matrix(rows))
