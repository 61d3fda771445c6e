# SPDX-License-Identifier: Apache-2.0
"""What the scorer says of one prompt, and what one may do with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class HallucinationScore:
    """EigenScore of one prompt and the baselines from the same pass. Of all entropies and scores, higher is less certain.

    Args:
        prompt (`str`): as given, or decoded.
        eigenscore (`float`): see [`eigenscore`][eigenhub.metrics.eigenscore].
        spectrum (`list[float]`): the K eigenvalues, descending, without alpha.
        samples (`list[str]`): texts of the answers.
        sample_ids (`list[list[int]]`): their tokens, with the end.
        greedy (`str` or `None`): the most probable continuation, where it was asked for.
        length_normalized_entropy (`float`): nats per token.
        mean_token_entropy (`float`): nats, mean over tokens, then over answers.
        sequence_log_probs (`list[float]`): of each answer.
        num_distinct (`int`): different texts.
        one_minus_mode_share (`float`): share of the answers that are not the most frequent one.
        lexical_similarity (`float`): mean Rouge-L of pairs of answers; higher is more certain.
        lengths (`list[int]`): tokens of each answer, its end included.
        empty (`list[bool]`): answers that are nothing but their end; their state is that of the end token.
    """

    prompt: str
    eigenscore: float
    spectrum: list[float]
    samples: list[str]
    sample_ids: list[list[int]]
    greedy: str | None
    length_normalized_entropy: float
    mean_token_entropy: float
    sequence_log_probs: list[float]
    num_distinct: int
    one_minus_mode_share: float
    lexical_similarity: float
    lengths: list[int]
    empty: list[bool]

    @property
    def mean_length(self) -> float:
        """Tokens per answer. EigenScore follows length: a detector must be compared with it."""
        return sum(self.lengths) / len(self.lengths)

    def to_dict(self) -> dict[str, Any]:
        """All fields and `mean_length`, as JSON takes them."""
        return {**asdict(self), "mean_length": self.mean_length}


BEST_OF_K = ("log_prob", "mode")


def best_of_k(score: HallucinationScore, by: str = "log_prob") -> str:
    """One of the K answers.

    A logits processor cannot use EigenScore, for it sees one unfinished answer; choosing and abstaining can.

    Args:
        score (`HallucinationScore`): of a prompt.
        by (`str`, *optional*, defaults to `"log_prob"`): the highest log-probability per token, or `"mode"`, the most
            frequent text, the first among equals.
    """
    if by not in BEST_OF_K:
        raise ValueError(f"`by` must be one of {', '.join(BEST_OF_K)}, got {by!r}")
    if by == "mode":
        return Counter(score.samples).most_common(1)[0][0]
    per_token = [p / n for p, n in zip(score.sequence_log_probs, score.lengths, strict=True)]
    return score.samples[per_token.index(max(per_token))]


def abstain_above(scores: Sequence[HallucinationScore], threshold: float, by: str = "log_prob") -> list[str | None]:
    """An answer for every prompt whose EigenScore is not above the threshold, `None` for the others.

    A threshold holds for one model, layer, convention and K only: calibrate it on answers known to be right or wrong.

    Args:
        scores (`Sequence[HallucinationScore]`): of the prompts.
        threshold (`float`): largest EigenScore that is answered.
        by (`str`, *optional*, defaults to `"log_prob"`): see [`best_of_k`].
    """
    return [None if score.eigenscore > threshold else best_of_k(score, by) for score in scores]
