# SPDX-License-Identifier: Apache-2.0
"""A BT² image model over a tiny vision transformer."""

from pathlib import Path

import torch
from torch import nn

from tests.capabilities.cells import DoesNotApply
from tests.capabilities.models import ModelProbes
from tests.models.bt2.test_common import VIT, TestBt2ForImageClassification


class Bt2Probes(ModelProbes):
    slug = "bt2"
    case = TestBt2ForImageClassification
    blocks = ("ViTLayer",)
    lora_targets = ["q_proj", "fc1"]
    quantized_config = {
        "backbone_config": VIT | dict.fromkeys(("hidden_size", "intermediate_size", "pooler_output_size"), 64)
    }
    dense = ["bt2.head", "classifier"]  # it computes with weights of its own layers, not only through them
    script_arguments = ("--per_device_batch_size", "4", "--warmup", "0", "--no-warm_start", "--init", "random")

    def complete(self, model: nn.Module) -> None:
        model.set_old_prototypes(self.case.model().old_prototypes(torch.device("cpu")))

    def generate(self, folder: Path) -> None:
        raise DoesNotApply("an embedding model: what it computes of an image or a text is a vector, not a sequence")


PROBES = Bt2Probes
