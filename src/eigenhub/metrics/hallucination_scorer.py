# SPDX-License-Identifier: Apache-2.0
"""Scores prompts by how much a language model's own answers to them disagree inside."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from eigenhub.metrics.answer_statistics import length_normalized_entropy, lexical_similarity, mode_share
from eigenhub.metrics.answers import Text, encode_answers, encode_prompts, special_tokens
from eigenhub.metrics.drawing import Reading, draw_and_read
from eigenhub.metrics.eigenscore import eigenscore
from eigenhub.metrics.embeddings import TOKENS
from eigenhub.metrics.hallucination_score import HallucinationScore
from eigenhub.metrics.hidden_states import evaluating, layer_index
from eigenhub.metrics.sampling import check_sampling, fixed_seed
from eigenhub.metrics.teacher_forcing import read_answers


class HallucinationScorer:
    """EigenScore and its baselines for any `AutoModelForCausalLM`, PEFT-wrapped or not.

    The prompts are computed once for all answers, the greedy answer is one more row among the samples, and the states
    and probabilities of the answers are taken while they are generated; one more step gives the last token its state.
    Where that cannot be - a cache of something else than keys and values, beams, an assistant, several processes - and
    for answers that are given, finished answers are read in a pass of their own. Both ways give the same scores.

    Args:
        model (`nn.Module`): with `generate` and `output_hidden_states`; it is in eval mode while it works here.
        tokenizer (`Any`): of the model.
        layer (`str` or `int`, *optional*, defaults to `"middle"`): `"middle"`, `"penultimate"`, or an index of
            `hidden_states`.
        token (`str`, *optional*, defaults to `"last"`): `"last"`, the end of the answer, `"mean"` or `"mean_last"`.
        convention (`str`, *optional*, defaults to `"inside"`): see [`eigenscore`].
        alpha (`float`, *optional*): see [`eigenscore`].
        num_samples (`int`, *optional*, defaults to 10): answers per prompt.
        temperature (`float`, *optional*, defaults to 0.5): of sampling.
        top_p (`float`, *optional*, defaults to 0.99): of sampling.
        top_k (`int`, *optional*, defaults to 10): of sampling.
        max_new_tokens (`int`, *optional*, defaults to 256): longest answer.
        batch_size (`int`, *optional*, defaults to 8): prompts at a time, each with all its answers.
        greedy (`bool`, *optional*, defaults to `True`): also generate the most probable continuation; it changes which
            numbers are drawn for the samples.
        seed (`int`, *optional*): of sampling; if given, the global generators are left as they were.

    Raises:
        ValueError: an option outside of its range; sampling that would give equal answers.

    Example:

    ```python
    scorer = HallucinationScorer(model, tokenizer, num_samples=10, max_new_tokens=64)
    scores = scorer.generate_and_score(["Who wrote The Old Man and the Sea?"])
    scores[0].eigenscore, scores[0].mean_token_entropy, scores[0].mean_length
    scorer.score(["Who wrote it?"], [["Hemingway", "Ernest Hemingway", "Melville"]])  # answers that are there already
    ```
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        layer: str | int = "middle",
        token: str = "last",
        convention: str = "inside",
        alpha: float | None = None,
        num_samples: int = 10,
        temperature: float = 0.5,
        top_p: float = 0.99,
        top_k: int = 10,
        max_new_tokens: int = 256,
        batch_size: int = 8,
        greedy: bool = True,
        seed: int | None = None,
    ) -> None:
        if token not in TOKENS:
            raise ValueError(f"`token` must be one of {', '.join(TOKENS)}, got {token!r}")
        if num_samples < 2:
            raise ValueError(f"`num_samples` must be at least 2, one answer has no diversity; got {num_samples}")
        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        eigenscore(torch.zeros(0, 2, 2), convention, alpha)  # refuses what is out of range
        self.sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k}
        check_sampling(self.sampling)
        self.model, self.tokenizer = model, tokenizer
        self.index = layer_index(model, layer)
        self.token, self.convention, self.alpha = token, convention, alpha
        self.num_samples, self.max_new_tokens = num_samples, max_new_tokens
        self.batch_size, self.greedy, self.seed = batch_size, greedy, seed
        self.special = special_tokens(model, tokenizer)

    def generate_and_score(self, prompts: Sequence[Text], **gen_kwargs: Any) -> list[HallucinationScore]:
        """Samples answers to each prompt and scores them.

        Args:
            prompts (`Sequence[str | Sequence[int]]`): texts, or token ids where the special tokens are in already.
            gen_kwargs (`Any`): for `generate`, over the options of the scorer.

        Returns:
            `list[HallucinationScore]`: one per prompt.
        """
        options = {**self.sampling, "max_new_tokens": self.max_new_tokens, **gen_kwargs}
        if "num_return_sequences" in options:
            raise ValueError("`num_return_sequences` must not be given: it is the scorer's `num_samples`")
        check_sampling(options)
        ids = encode_prompts(self.tokenizer, prompts)
        settings = (self.special, self.num_samples, self.greedy, self.index, self.token)
        with evaluating(self.model), fixed_seed(self.seed, next(self.model.parameters()).device):
            drawn = [
                draw_and_read(self.model, ids[start : start + self.batch_size], *settings, **options)
                for start in range(0, len(ids), self.batch_size)
            ]
        samples = [answers for batch in drawn for answers in batch.answers]
        greedy = [self._text(row) if row is not None else None for batch in drawn for row in batch.greedy]
        if all(len(set(map(tuple, answers))) == 1 for answers in samples):
            warnings.warn(
                "all answers to every prompt are the same, so EigenScore says nothing: raise `temperature` or `top_k`",
                RuntimeWarning,
                stacklevel=2,
            )
        return self._score(prompts, ids, samples, greedy, [batch.reading for batch in drawn])

    def score(
        self, prompts: Sequence[Text], samples: Sequence[Sequence[Text]], greedy: Sequence[str | None] | None = None
    ) -> list[HallucinationScore]:
        """Scores answers that are there already, from this model or any other source.

        Args:
            prompts (`Sequence[str | Sequence[int]]`): texts or token ids.
            samples (`Sequence[Sequence[str | Sequence[int]]]`): two or more answers to each prompt; their number may
                differ. Texts are encoded without special tokens and get an end-of-sequence token; token ids
                (`sample_ids` of a score) are cut behind their first one.
            greedy (`Sequence[str]`, *optional*): passed on to the results.

        Returns:
            `list[HallucinationScore]`: one per prompt.

        Raises:
            ValueError: numbers that do not fit, or fewer than two answers to a prompt.
        """
        ids = encode_prompts(self.tokenizer, prompts)
        texts: list[str | None] = [None] * len(ids) if greedy is None else list(greedy)
        for name, given in (("samples", samples), ("greedy", texts)):
            if len(given) != len(ids):
                raise ValueError(f"`{name}` must have an entry for each of {len(ids)} prompts, got {len(given)}")
        for number, answers in enumerate(samples):
            if isinstance(answers, str) or len(answers) < 2:
                raise ValueError(f"`samples` must be lists of two or more answers, number {number} is {answers!r}")
        rows = [encode_answers(self.tokenizer, answers, self.special) for answers in samples]
        return self._score(prompts, ids, rows, texts)

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _score(
        self,
        prompts: Sequence[Text],
        ids: list[list[int]],
        samples: list[list[list[int]]],
        greedy: list[str | None],
        readings: Sequence[Reading | None] = (),
    ) -> list[HallucinationScore]:
        scores: list[HallucinationScore] = []
        with evaluating(self.model):
            for number, start in enumerate(range(0, len(ids), self.batch_size)):
                part = slice(start, start + self.batch_size)
                reading = readings[number] if readings else None
                reading = reading or self._read(ids[part], samples[part])
                scores += self._score_batch(prompts[part], samples[part], greedy[part], reading)
        return scores

    def _read(self, ids: list[list[int]], samples: list[list[list[int]]]) -> Reading:
        pairs = [(prompt, answer) for prompt, answers in zip(ids, samples, strict=True) for answer in answers]
        return read_answers(self.model, pairs, self.special.pad, self.index, self.token)

    def _score_batch(
        self, prompts: Sequence[Text], samples: list[list[list[int]]], greedy: list[str | None], reading: Reading
    ) -> list[HallucinationScore]:
        embeddings, statistics = reading
        counts = [len(answers) for answers in samples]
        mask = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]  # [b, K]
        x = embeddings.new_zeros(*mask.shape, embeddings.shape[-1])
        x[mask.to(x.device)] = embeddings
        values, spectra = eigenscore(x, self.convention, self.alpha, mask=mask, return_spectrum=True)
        results, first = [], 0
        for number, answers in enumerate(samples):
            rows = statistics[first : first + counts[number]]
            first += counts[number]
            prompt = prompts[number]
            results.append(
                self._result(
                    prompt if isinstance(prompt, str) else self._text(prompt),
                    float(values[number]),
                    spectra[number, : counts[number]].tolist(),
                    answers,
                    rows,
                    greedy[number],
                )
            )
        return results

    def _result(
        self,
        prompt: str,
        value: float,
        spectrum: list[float],
        answers: list[list[int]],
        statistics: list[tuple[float, float]],
        greedy: str | None,
    ) -> HallucinationScore:
        texts = [self._text(answer) for answer in answers]
        log_probs = [log_prob for log_prob, _ in statistics]
        lengths = [len(answer) for answer in answers]
        return HallucinationScore(
            prompt=prompt,
            eigenscore=value,
            spectrum=spectrum,
            samples=texts,
            sample_ids=answers,
            greedy=greedy,
            length_normalized_entropy=length_normalized_entropy(log_probs, lengths),
            mean_token_entropy=sum(entropy for _, entropy in statistics) / len(statistics),
            sequence_log_probs=log_probs,
            num_distinct=len(set(texts)),
            one_minus_mode_share=1 - mode_share(texts),
            lexical_similarity=lexical_similarity(answers),
            lengths=lengths,
            empty=[len(answer) == 1 and answer[0] in self.special.eos for answer in answers],
        )
