# SPDX-License-Identifier: Apache-2.0
"""From text to token rows for a causal language model: prompts masked, or plain text packed into blocks."""

from collections.abc import Iterator, Mapping, Sequence

from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from eigenhub import __version__
from eigenhub.training.accumulation import IGNORED
from eigenhub.training.packing import Packer
from eigenhub.training.text_source import TextColumns


def tokenize(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    columns: TextColumns,
    max_length: int,
    template: str = "{prompt}\n",
    each_part: bool = False,
) -> Dataset:
    """
    Rows of `input_ids` and `labels`, of at most `max_length` tokens.

    Args:
        dataset (`Dataset`): with the named columns.
        tokenizer (`PreTrainedTokenizerBase`): needs an end-of-sequence token.
        columns (`TextColumns`): prompt and response (the loss is on the response and its end), or plain text.
        max_length (`int`): longest row; plain text is cut into blocks of exactly this length.
        template (`str`, *optional*, defaults to `"{prompt}\\n"`): what the model reads, around the prompt.
        each_part (`bool`, *optional*, defaults to `False`):
            Cut prompt and response to `max_length` separately, as some published runs did.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-sequence token: generation would never stop")
    if columns.prompt is None:
        return _pack(dataset, tokenizer, str(columns.text), max_length)
    rows = dataset.map(
        lambda row: _mask_prompt(
            tokenizer, template.format(prompt=row[columns.prompt]), row[columns.response], max_length, each_part
        ),
        remove_columns=dataset.column_names,
        desc="tokenizing",
    )
    # A prompt as long as the limit leaves nothing to learn; such a row would only dilute its batch.
    kept = rows.filter(
        lambda row: any(label != IGNORED for label in row["labels"]), desc="dropping rows without labels"
    )
    if len(kept) == 0:
        raise ValueError(f"no response begins within max_length={max_length} tokens: raise it")
    return kept


def _mask_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, max_length: int, each_part: bool
) -> dict[str, list[int]]:
    prompt_ids = tokenizer(prompt)["input_ids"]
    # Some tokenizers close every text; the response has to follow directly.
    if prompt_ids and prompt_ids[-1] == tokenizer.eos_token_id:
        prompt_ids = prompt_ids[:-1]
    response_ids = [*tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    if each_part:
        prompt_ids, response_ids = prompt_ids[:max_length], response_ids[:max_length]
    limit = 2 * max_length if each_part else max_length
    ids = [*prompt_ids, *response_ids][:limit]
    return {"input_ids": ids, "labels": ([IGNORED] * len(prompt_ids) + response_ids)[:limit]}


def _pack(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, column: str, block: int) -> Dataset:
    try:
        return Dataset.from_generator(
            _blocks,
            Features({"input_ids": List(Value("int64")), "labels": List(Value("int64"))}),
            gen_kwargs={"dataset": dataset, "tokenizer": tokenizer, "column": column, "block": block},
            fingerprint=_fingerprint(dataset, tokenizer, column, block),
        )
    except ValueError as error:  # no rows: "Instruction "train" corresponds to no data!"
        raise ValueError(f"the text is shorter than one block of {block} tokens") from error


def _fingerprint(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, *settings: object) -> str:
    """Name of the packed rows in the cache: by content, because the pickle of a tokenizer changes while it is used."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = tokenizer if backend is None else (backend.to_str(), tokenizer.eos_token_id)
    return Hasher.hash((dataset._fingerprint, content, settings, __version__))


def _blocks(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, column: str, block: int
) -> Iterator[Mapping[str, Sequence[int]]]:
    packer = Packer(tokenizer, block)
    for batch in dataset.select_columns(column).iter(batch_size=1000):
        packer.add(batch[column])
        for ids in packer.cut(packer.full_blocks()):
            yield {"input_ids": ids, "labels": ids}
