# SPDX-License-Identifier: Apache-2.0
"""Two pairs of base model and SORSA adapter that need no download: trained here in seconds, kept in the cache."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from names import DIGITS, PROBLEMS
from peft import get_peft_model
from torch import Tensor
from tqdm.auto import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    get_cosine_schedule_with_warmup,
)

from eigenhub import __version__
from eigenhub.embedded import llama, vit
from eigenhub.embedded.arithmetic import load_problems
from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.digits import load_digits
from eigenhub.embedded.pretrain import endless_rows
from eigenhub.training.text_source import TextColumns
from eigenhub.training.tokenization import tokenize
from eigenhub.tuners.sorsa import SorsaConfig, apply_regularizer, sorsa_param_groups


Batches = Iterator[dict[str, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How an embedded adapter is trained."""

    target_modules: tuple[str, ...]
    r: int = 8
    num_steps: int = 300
    batch_size: int = 64
    lr: float = 1e-2
    seed: int = 0


@dataclass(frozen=True)
class EmbeddedPair:
    """An embedded base model and the task that its adapter learns."""

    base_folder: Callable[[], Path]
    load_base: Callable[[Path], PreTrainedModel]
    batches: Callable[[Path, Recipe], Batches]
    recipe: Recipe

    def adapter_folder(self) -> Path:
        """Folder of the adapter, trained now if it is not in the cache."""
        base = self.base_folder()

        def build(folder: Path) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.seed)
                config = SorsaConfig(r=self.recipe.r, target_modules=list(self.recipe.target_modules))
                model = get_peft_model(self.load_base(base), config)
                train(model, self.batches(base, self.recipe), self.recipe)
            model.save_pretrained(folder)

        # The base's folder is named by a hash of its own recipe; another version may save adapters differently.
        recipe = {"eigenhub": __version__, "base": base.name, **asdict(self.recipe)}
        return cached_folder("sorsa-adapter", recipe, build)


def train(model: torch.nn.Module, batches: Batches, recipe: Recipe) -> None:
    """SORSA in a raw loop: no weight decay on the factors, and the penalty's gradient after clipping."""
    optimizer = torch.optim.AdamW(sorsa_param_groups(model, lr=recipe.lr))
    scheduler = get_cosine_schedule_with_warmup(optimizer, recipe.num_steps // 10, recipe.num_steps)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    for _ in tqdm(range(recipe.num_steps), desc="training the embedded SORSA adapter"):
        model(**next(batches)).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        apply_regularizer(model)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def upright_digits(base: Path, recipe: Recipe) -> Batches:
    """What the embedded ViT, which has only seen turned digits, has to learn."""
    columns = load_digits()["train"][:]
    for rows in endless_rows(len(columns["labels"]), recipe.batch_size, recipe.seed):
        yield {name: column[rows] for name, column in columns.items()}


def differences(base: Path, recipe: Recipe) -> Batches:
    """What the embedded Llama, which has only seen sums, has to learn."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    columns = TextColumns(prompt="question", response="answer")
    rows = tokenize(load_problems("subtract")["train"], tokenizer, columns, llama.MAX_LENGTH).to_list()
    collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    for indices in endless_rows(len(rows), recipe.batch_size, recipe.seed):
        yield dict(collate([rows[i] for i in indices.tolist()]))


EMBEDDED = {
    DIGITS: EmbeddedPair(
        vit.pretrained_vit_folder,
        AutoModelForImageClassification.from_pretrained,
        upright_digits,
        Recipe(vit.TARGET_MODULES),
    ),
    PROBLEMS: EmbeddedPair(
        llama.pretrained_llama_folder,
        AutoModelForCausalLM.from_pretrained,
        differences,
        Recipe(llama.TARGET_MODULES, num_steps=150, batch_size=16, lr=3e-3),
    ),
}
