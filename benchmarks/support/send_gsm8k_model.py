# SPDX-License-Identifier: Apache-2.0
"""A small Llama trained on GSM8K on the spot: problems, and their calculator steps once more by themselves."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.llama import small_llama_config
from eigenhub.embedded.pretrain import endless_rows, fit
from eigenhub.embedded.tokenizer import train_tokenizer
from support.send_gsm8k_data import NEW, drills, read, text_of


OPEN, CLOSE = "<<", ">>"
VOCABULARY, HIDDEN, LAYERS, LR = 1024, 96, 4, 3e-3
#: Tokens of a row of problems, and rows in an optimizer step.
BLOCK, ROWS = 256, 2
#: The same of calculator steps, and how many optimizer steps they get for one of problems.
STEP_BLOCK, STEP_ROWS, STEP_SHARE = 32, 48, 4
IGNORED = -100


def known_rows() -> list[dict[str, str]]:
    """Problems of the training split that the model is trained on."""
    return read("train")[:-NEW]


def new_rows() -> list[dict[str, str]]:
    """Problems of the training split that are kept for training further."""
    return read("train")[-NEW:]


@cache
def gsm8k_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of the training problems; digits and the brackets of a step are tokens of their own."""
    texts = [text_of(row) for row in known_rows()]
    recipe = {"text": _digest(texts), "vocabulary": VOCABULARY}

    def build(folder: Path) -> None:
        tokenizer = train_tokenizer(texts, VOCABULARY, max_length=1024)
        tokenizer.add_tokens([OPEN, CLOSE])
        tokenizer.save_pretrained(folder)

    return PreTrainedTokenizerFast.from_pretrained(cached_folder("gsm8k-tokenizer", recipe, build))


def model_folder(num_steps: int, seed: int) -> Path:
    """Folder of the trained model, for `from_pretrained`; trained now if it is not in the cache.

    Args:
        num_steps (`int`): optimizer steps, one of problems after every four of calculator steps.
        seed (`int`): of the weights and of the order of the text.
    """
    texts = [text_of(row) for row in known_rows()]
    shape = [VOCABULARY, HIDDEN, LAYERS, LR, BLOCK, ROWS, STEP_BLOCK, STEP_ROWS, STEP_SHARE]
    recipe = {"text": _digest(texts), "shape": shape, "num_steps": num_steps, "seed": seed}

    def build(folder: Path) -> None:
        tokenizer = gsm8k_tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(small_llama_config(tokenizer, HIDDEN, LAYERS))
            fit(model, batches(tokenizer, texts, seed), num_steps, LR, f"training on GSM8K, seed {seed}")
        model.save_pretrained(folder)

    return cached_folder("gsm8k-llama", recipe, build)


def load_model(folder: Path) -> LlamaForCausalLM:
    """The model, which ends an answer at the closing bracket of a step or at the end of a text.

    Args:
        folder (`Path`): from [`model_folder`].
    """
    tokenizer = gsm8k_tokenizer()
    model = LlamaForCausalLM.from_pretrained(folder)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(CLOSE), tokenizer.eos_token_id]
    return model.eval()


def batches(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> Iterator[dict[str, Tensor]]:
    """Batches of problems with a loss on all tokens, and of calculator steps with a loss on their results, without end.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): of the model.
        texts (`Sequence[str]`): problems.
        seed (`int`): of the order.
    """
    problems = _rows([[*ids, tokenizer.eos_token_id] for ids in tokenizer(list(texts))["input_ids"]], BLOCK)
    lines = [f"{line}\n" for line in drills(known_rows())]
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(seed)).tolist()
    steps = _rows(tokenizer([lines[place] for place in order])["input_ids"], STEP_BLOCK)
    vocabulary = tokenizer.get_vocab()
    results = labels_of_results(steps, vocabulary["="], vocabulary[CLOSE])
    of_problems, of_steps = endless_rows(len(problems), ROWS, seed), endless_rows(len(steps), STEP_ROWS, seed)
    while True:
        for _ in range(STEP_SHARE):
            rows = next(of_steps)
            yield {"input_ids": steps[rows], "labels": results[rows]}
        rows = next(of_problems)
        yield {"input_ids": problems[rows], "labels": problems[rows]}


def labels_of_results(rows: Tensor, equals: int, close: int) -> Tensor:
    """The tokens behind an equals sign up to the closing bracket; the others are ignored.

    Args:
        rows (`Tensor` of shape `(n, t)`): ids of calculator steps.
        equals (`int`): id of the equals sign.
        close (`int`): id of the closing bracket.
    """
    places = torch.arange(rows.shape[1])
    last_equals = torch.where(rows == equals, places, -1).cummax(1).values
    before_close = torch.where(rows == close, places, -1).cummax(1).values.roll(1, 1)
    before_close[:, 0] = -1
    return torch.where((last_equals > before_close) & (rows != equals), rows, IGNORED)


def _rows(texts: Sequence[list[int]], length: int) -> Tensor:
    stream = [token for ids in texts for token in ids]
    return torch.tensor(stream[: len(stream) // length * length]).view(-1, length)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
