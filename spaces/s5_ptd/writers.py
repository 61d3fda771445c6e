# SPDX-License-Identifier: Apache-2.0
"""Language models that write with a state of constant size: an embedded one, trained here, or any of this family."""

import hashlib
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from names import EMBEDDED_TEXT
from torch.optim import AdamW
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

import eigenhub.auto  # noqa: F401  # registers the architectures
from eigenhub import __version__
from eigenhub.embedded.byte_llama import byte_batches, byte_blocks
from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.embedded.cache import cached_folder
from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.models.s5_ptd import S5Config, S5ForCausalLM, s5_param_groups


PIECES = 8  # the state is weighed so many times while a text is written


@dataclass(frozen=True)
class Recipe:
    """How the embedded model is trained."""

    hidden_size: int = 128
    num_hidden_layers: int = 2
    state_size: int = 128
    num_blocks: int = 4
    num_steps: int = 500
    batch_size: int = 8
    lr: float = 1e-2
    ssm_lr: float = 2e-3
    seed: int = 0


RECIPE = Recipe()


@dataclass(frozen=True)
class Written:
    """
    A text and what it took.

    Args:
        text (`str`): the continuation.
        tokens (`list[int]`): tokens read and written so far, prompt included, after each piece.
        state_bytes (`list[int]`): memory of the state then.
        seconds (`list[float]`): time per token of each piece.
        attention_bytes (`list[int]`): what the keys and values of a transformer of the same width and depth would take.
    """

    text: str
    tokens: list[int]
    state_bytes: list[int]
    seconds: list[float]
    attention_bytes: list[int]


def writer_folder() -> Path:
    """Folder of the embedded model and its tokenizer; trained now if it is not in the cache."""

    def build(folder: Path) -> None:
        tokenizer = byte_tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RECIPE.seed)
            model = new_writer(RECIPE)
            train(model, RECIPE)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    # Another Python has another library to learn from.
    text = hashlib.sha256(byte_blocks().numpy().tobytes()).hexdigest()
    return cached_folder("s5-ptd-text", {"eigenhub": __version__, "text": text, **asdict(RECIPE)}, build)


def new_writer(recipe: Recipe) -> S5ForCausalLM:
    """The untrained model."""
    return S5ForCausalLM(
        S5Config(
            vocab_size=256,
            hidden_size=recipe.hidden_size,
            num_hidden_layers=recipe.num_hidden_layers,
            state_size=recipe.state_size,
            num_blocks=recipe.num_blocks,
            init="ptd",
            c_init="trunc_standard_normal",
            pad_token_id=0,
            eos_token_id=0,
        )
    )


def train(model: S5ForCausalLM, recipe: Recipe) -> None:
    """AdamW with the parameter groups of S5 on the sources of Python's standard library."""
    optimizer = AdamW(s5_param_groups(model, recipe.lr, recipe.ssm_lr, weight_decay=0.01))
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.num_steps // 10, recipe.num_steps)
    batches = byte_batches(recipe.batch_size, recipe.seed)
    model.train()
    for _ in tqdm(range(recipe.num_steps), desc="training the embedded language model"):
        rows = next(batches)
        model(input_ids=rows, labels=rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


@lru_cache(maxsize=2)
def load_writer(name: str) -> tuple[Any, Any]:
    """Model and tokenizer: the embedded ones, or any of this family by Hub id or folder."""
    if name == EMBEDDED_TEXT:
        folder = writer_folder()
        return S5ForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with shown_to_visitor(f"Cannot load {name!r}"):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
        if model.config.model_type not in ("s5_ptd", "s4d"):
            raise ValueError(f"it is a {model.config.model_type} model, not one of S5 or S4D")
    return model, tokenizer


def write(name: str, prompt: str, max_new_tokens: int, temperature: float, seed: int = 0) -> Written:
    """
    Continue a prompt in pieces, weighing the state after each.

    Args:
        name (`str`): see [`load_writer`].
        prompt (`str`): beginning.
        max_new_tokens (`int`): tokens to write.
        temperature (`float`): 0 for the likeliest token each time.
        seed (`int`, *optional*, defaults to 0): of the draws.
    """
    model, tokenizer = load_writer(name)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    start, cache = ids.shape[1], None
    how: dict[str, Any] = {"do_sample": temperature > 0, "pad_token_id": 0, "eos_token_id": None}
    how |= {"temperature": temperature, "top_k": 32} if temperature > 0 else {}
    found = Written("", [], [], [], [])
    torch.manual_seed(seed)
    for length in pieces(max_new_tokens):
        before = time.perf_counter()
        output = model.generate(ids, past_key_values=cache, max_new_tokens=length, return_dict_in_generate=True, **how)
        found.seconds.append((time.perf_counter() - before) / length)
        ids, cache = output.sequences, output.past_key_values
        found.tokens.append(ids.shape[1])
        found.state_bytes.append(cache.num_bytes)
        found.attention_bytes.append(attention_bytes(model.config, ids.shape[1]))
    text = tokenizer.decode(ids[0, start:], skip_special_tokens=True)
    return Written(text, found.tokens, found.state_bytes, found.seconds, found.attention_bytes)


def pieces(length: int) -> list[int]:
    """A number of tokens in up to eight parts of about equal size."""
    count = min(PIECES, length)
    return [length * (i + 1) // count - length * i // count for i in range(count)]


def attention_bytes(config: Any, tokens: int) -> int:
    """Keys and values of every token in every layer, in 32 bits."""
    return 2 * config.num_hidden_layers * config.hidden_size * 4 * tokens
