# SPDX-License-Identifier: Apache-2.0
"""GSM8K-like accuracy: exact match of the final number, by greedy generation."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase


#: What announces the final number: GSM8K's own mark, then MetaMathQA's.
MARKS = ("####", "The answer is:")
_NUMBER = re.compile(r"(?<!\d)-?(?:\d[\d,]*)?\.?\d+")


def final_answer(text: str) -> Decimal | None:
    """
    The number an answer ends on: the first one after the last mark, or without a mark the last one of the text.

    Signs of currency and per cent, thousands separators and a closing full stop do not count: "$1,250.00." is 1250.
    """
    for mark in MARKS:
        if mark in text:
            return _number(_NUMBER.findall(text.rpartition(mark)[2])[:1])
    return _number(_NUMBER.findall(text)[-1:])


def _number(found: Sequence[str]) -> Decimal | None:
    try:
        return Decimal(found[0].replace(",", "")) if found else None
    except InvalidOperation:
        return None


def is_correct(generated: str, reference: str) -> bool:
    """Whether both texts end on the same number; a reference without one is an error."""
    expected = final_answer(reference)
    if expected is None:
        raise ValueError(f"the reference answer holds no number: {reference!r}")
    return final_answer(generated) == expected


def exact_match(
    accelerator: Accelerator,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    problems: Dataset,
    columns: tuple[str, str] = ("question", "answer"),
    template: str = "{prompt}\n",
    batch_size: int = 16,
    max_new_tokens: int = 256,
) -> float:
    """
    Share of problems whose generated answer ends on the right number, over all processes.

    Args:
        accelerator (`Accelerator`): shares the problems out among the processes.
        model (`nn.Module`): unwrapped model with `generate`.
        tokenizer (`PreTrainedTokenizerBase`): needs a padding token; its padding side is put back afterwards.
        problems (`Dataset`): with the two named columns.
        columns (`tuple[str, str]`, *optional*, defaults to `("question", "answer")`): prompt and reference answer.
        template (`str`, *optional*, defaults to `"{prompt}\\n"`): what the model reads, as in training.
        batch_size (`int`, *optional*, defaults to 16): problems per process and call.
        max_new_tokens (`int`, *optional*, defaults to 256): longest answer.
    """
    loader = accelerator.prepare_data_loader(DataLoader(problems.select_columns(list(columns)), batch_size=batch_size))
    correct = []
    was_training, side = model.training, tokenizer.padding_side
    model.eval()
    tokenizer.padding_side = "left"  # new tokens must follow the prompt, not its padding
    try:
        for batch in tqdm(loader, desc="answering", disable=not accelerator.is_local_main_process):
            prompts = [template.format(prompt=prompt) for prompt in batch[columns[0]]]
            answers = _generate(model, tokenizer, prompts, max_new_tokens, accelerator.device)
            matches = [is_correct(*pair) for pair in zip(answers, batch[columns[1]], strict=True)]
            correct.append(accelerator.gather_for_metrics(torch.tensor(matches, device=accelerator.device)))
    finally:
        model.train(was_training)
        tokenizer.padding_side = side
    return torch.cat(correct).float().mean().item()


@torch.no_grad()
def _generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    device: torch.device,
) -> list[str]:
    inputs: Mapping[str, torch.Tensor] = tokenizer(list(prompts), return_tensors="pt", padding=True).to(device)
    options = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}
    output = model.generate(**inputs, **options, pad_token_id=tokenizer.pad_token_id)  # type: ignore[operator]
    return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
