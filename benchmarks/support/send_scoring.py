# SPDX-License-Identifier: Apache-2.0
"""The scorer against `generate` alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from eigenhub.metrics import HallucinationScorer
from eigenhub.metrics.hidden_states import evaluating
from eigenhub.metrics.prompt_cache import repeated_prompts
from support.report import row
from support.send_timing import in_turn
from support.timing import ratio


SAMPLES, BOUND = 10, 1.15
TOKENS = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}


@dataclass(frozen=True)
class Case:
    """A model and the texts that it gets.

    Args:
        name (`str`): architecture.
        new_model (`Callable`): an untrained model, whose answers all differ: nothing is saved by equal ones.
        vocabulary (`int`): tokens.
        prompt (`int`): tokens of a prompt.
        answer (`int`): tokens of an answer.
    """

    name: str
    new_model: Callable[[], Any]
    vocabulary: int
    prompt: int
    answer: int


def llama() -> Any:
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=8000, max_position_embeddings=512, **sizes, **TOKENS))


def gpt_neox() -> Any:
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=16000, max_position_embeddings=512, **sizes, **TOKENS))


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=32000, n_embd=512, n_layer=4, n_head=8, n_positions=512, **TOKENS))


CASES = (
    Case("Llama, d=256", llama, 8000, 64, 64),
    Case("GPT-NeoX, d=384", gpt_neox, 16000, 128, 32),
    Case("GPT-2, d=512", gpt2, 32000, 256, 32),
)


def words(count: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are words."""
    tokenizer = Tokenizer(models.WordLevel({f"w{number}": number for number in range(count)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w1", bos_token="w2", eos_token="w3")


def contenders(case: Case) -> dict[str, Callable[[], object]]:
    """Everything with answers of the same length."""
    torch.manual_seed(0)
    model, tokenizer = case.new_model().eval(), words(case.vocabulary)
    ids = torch.randint(4, case.vocabulary, (1, case.prompt))
    prompts, length = ids.tolist(), {"max_new_tokens": case.answer, "min_new_tokens": case.answer}
    scorer = HallucinationScorer(model, tokenizer, num_samples=SAMPLES, greedy=False)
    default = HallucinationScorer(model, tokenizer, num_samples=SAMPLES)
    options = {**length, "attention_mask": torch.ones_like(ids)}
    sampled = {**options, **scorer.sampling, "num_return_sequences": SAMPLES}
    answers = [score.sample_ids for score in default.generate_and_score(prompts, **length)]  # also warms up

    def shared() -> None:
        with evaluating(model):
            cache, _ = repeated_prompts(model, prompts, [0] * SAMPLES, 1) or (None, None)
        model.generate(ids, past_key_values=cache, **sampled)

    return {
        "generate": lambda: model.generate(ids, **sampled),
        "generate, shared prompts": shared,
        "generate greedily": lambda: model.generate(ids, do_sample=False, **options),
        "scorer": lambda: scorer.generate_and_score(prompts, **length),
        "scorer and greedy answer": lambda: default.generate_and_score(prompts, **length),
        "score": lambda: scorer.score(prompts, answers),
    }


def scoring(case: Case, rounds: int) -> list[dict[str, Any]]:
    """What a score costs beside the answers that it needs.

    Args:
        case (`Case`): model and texts.
        rounds (`int`): of timing.
    """
    seconds = in_turn(contenders(case), rounds)
    pairs = zip(seconds["generate"], seconds["generate greedily"], strict=True)
    seconds["both"] = [a + b for a, b in pairs]
    setting = (
        f"{case.name}, {case.vocabulary // 1000}k words, a prompt of {case.prompt} tokens, "
        f"K={SAMPLES} answers of {case.answer}"
    )
    rows = (
        ("scorer without the greedy answer / `generate` alone", "scorer", "generate", BOUND),
        ("scorer with its defaults / `generate` alone", "scorer and greedy answer", "generate", BOUND),
        ("scorer with its defaults / `generate`, then greedily", "scorer and greedy answer", "both", BOUND),
        (
            "scorer without the greedy answer / `generate` from shared prompts",
            "scorer",
            "generate, shared prompts",
            BOUND,
        ),
        ("`score` of given answers / `generate` alone", "score", "generate", None),
    )
    return [
        row(what, setting, found.pop("ratio"), bound, **found)
        for what, name, peer, bound in rows
        for found in [ratio(seconds, name, peer)]
    ]
