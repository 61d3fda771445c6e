# SPDX-License-Identifier: Apache-2.0
"""The teachers' vectors: computed once per item on its evaluation view, kept by item id, or read from a file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bt2_data import Split
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, AutoModel
from transformers.utils import ModelOutput

from eigenhub.embedded.cache import recipe_key
from eigenhub.models.bt2.bt2_trunk import pooled_feature
from eigenhub.models.bt2.configuration_bt2 import Bt2TrunkConfig
from eigenhub.models.bt2.item_vectors import ItemVectors, cached_vectors, weights_fingerprint
from eigenhub.models.bt2.modeling_bt2 import Bt2Model
from eigenhub.models.bt2.modeling_bt2_embedder import Bt2EmbedderForImageClassification, teacher_of
from eigenhub.training.options import EMBEDDED
from eigenhub.training.text_source import is_local


if TYPE_CHECKING:
    from accelerate import Accelerator


class PooledTeacher(nn.Module):
    """Any image model of transformers as a teacher: its pooled feature is its embedding.

    Args:
        name (`str`): folder or Hub id.
        pooling (`str`): see [`Bt2TrunkConfig`].
    """

    def __init__(self, name: str, pooling: str) -> None:
        super().__init__()
        self.backbone = AutoModel.from_pretrained(name)
        self.config = Bt2TrunkConfig(backbone_config=self.backbone.config, pooling=pooling)

    def forward(self, pixel_values: Tensor) -> ModelOutput:
        outputs = self.backbone(pixel_values, return_dict=True)
        return ModelOutput(embedding=pooled_feature(self.config, outputs))


def load_teacher(args: argparse.Namespace, teacher: str) -> nn.Module | None:
    """The old or new model, in evaluation mode; None where only a file of its vectors is given."""
    name = getattr(args, f"{teacher}_model")
    if name is None:
        return None
    if name == EMBEDDED:
        from eigenhub.embedded.glyph_models import glyph_embedder_folder

        name = str(glyph_embedder_folder("old" if teacher == "old" else "new", seed=args.seed))
    kind = AutoConfig.from_pretrained(name).model_type
    classes = {"bt2": Bt2Model, "bt2_embedder": Bt2EmbedderForImageClassification}
    model = classes[kind].from_pretrained(name) if kind in classes else PooledTeacher(name, args.pooling)
    return model.eval().requires_grad_(False)


def vectors_of(
    accelerator: "Accelerator", args: argparse.Namespace, teacher: str, model: nn.Module | None, split: Split
) -> ItemVectors:
    """A teacher's vectors of all items of a split.

    Args:
        accelerator (`Accelerator`): shares the work out; the main process writes the file.
        args (`argparse.Namespace`): options of the script.
        teacher (`str`): `"old"` or `"new"`.
        model (`nn.Module`, *optional*): the teacher; without it the vectors are read from the file that was given.
        split ([`Split`]): items.
    """
    if model is None:
        return ItemVectors.load(getattr(args, f"{teacher}_vectors"))
    view = recipe_key({"image_size": split.image_size if split.image_column else None})
    source = f"{weights_fingerprint(model)}-{view}"
    name = f"{teacher}-{recipe_key({'source': source, 'items': split.ids})}.safetensors"
    folder = Path(args.output_dir) / "teachers"
    return cached_vectors(
        folder / name,
        source,
        split.ids,
        lambda: embed(accelerator, model, split, args.eval_batch_size, args.workers),
        write=accelerator.is_main_process,
    )


def identity(args: argparse.Namespace, teacher: str, kept: ItemVectors) -> dict[str, Any]:
    """Which model wrote the vectors, by name and by weights, and what it was shown.

    Args:
        args (`argparse.Namespace`): options of the script.
        teacher (`str`): `"old"` or `"new"`.
        kept ([`ItemVectors`]): its vectors.
    """
    name = getattr(args, f"{teacher}_model")
    shown = getattr(args, f"{teacher}_vectors").name if name is None else Path(name).name if is_local(name) else name
    weights, _, view = kept.source.partition("-")
    return {"id": shown, "revision": weights or None, "dim": kept.vectors.shape[1], "preprocessing": view or None}


class EvalRows(Dataset):
    """Evaluation views and row numbers."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"pixel_values": self.split.view(row), "row": torch.tensor(row)}


def embed(accelerator: "Accelerator", model: nn.Module, split: Split, batch_size: int, workers: int = 0) -> Tensor:
    """The model's embeddings of all items, in their order, on every process.

    Args:
        accelerator (`Accelerator`): shares the batches out.
        model (`nn.Module`): gives an output with `embedding`; its mode is restored.
        split ([`Split`]): items.
        batch_size (`int`): per process.
        workers (`int`, *optional*, defaults to 0): processes that read images.
    """
    loader = DataLoader(EvalRows(split), batch_size=batch_size, num_workers=workers)
    model.to(accelerator.device)
    found, rows = [], []
    for batch in accelerator.prepare_data_loader(loader):
        vectors = teacher_of(model, batch["pixel_values"])
        found.append(accelerator.gather_for_metrics(vectors).float().cpu())
        rows.append(accelerator.gather_for_metrics(batch["row"]).cpu())
    return torch.cat(found)[torch.cat(rows).argsort()]
