# SPDX-License-Identifier: Apache-2.0
"""A StyleGAN2 generator with Householder projectors; it trains towards fixed pictures, its script against a discriminator."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.capabilities.compare import check_equal, check_moved, weights_of
from tests.capabilities.models import ModelProbes
from tests.capabilities.training import ALL, STEPS
from tests.common.model_tester import wave
from tests.models.stylegan2.test_common import TestProjectedGenerator


class HouseholderProbes(ModelProbes):
    slug = "householder"
    case = TestProjectedGenerator
    blocks = ("SynthesisBlock",)
    lora_targets = ["conv0", "affine"]
    script_arguments = (
        *("--image_size", "16", "--z_dim", "8", "--w_dim", "8", "--channel_base", "64", "--channel_max", "8"),
        *("--mapping_layers", "1", "--num_images", "16", "--per_device_batch_size", "4", "--grid", "2"),
    )

    def loss(self, model: nn.Module, rows: slice = ALL) -> Tensor:
        """Distance to a picture that is the same for every row; a wrapped model shows no `config`."""
        inputs = {name: tensor[rows] for name, tensor in self.case.inputs(4).items()}
        images = model(**inputs).images.float()
        return (images - wave(1, *images.shape[1:], frequency=0.05)).square().mean()

    def resume(self, folder: Path) -> str:
        """By accelerate's checkpoints, as its script does: `Trainer` knows one network and one optimizer."""
        whole = self.prepared()
        self.go(whole, STEPS)
        whole[0].save_state(str(folder))
        self.go(whole, STEPS)
        resumed = self.prepared()
        resumed[0].load_state(str(folder))
        self.go(resumed, STEPS)
        check_moved(weights_of(whole[1]), weights_of(self.model()))
        check_equal(weights_of(resumed[1]), weights_of(whole[1]), "resumed")
        return "by `accelerator.save_state`, as the script does"

    def prepared(self) -> tuple[Any, Any, Any]:
        from accelerate import Accelerator

        accelerator, model = Accelerator(cpu=True), self.model()
        return accelerator, *accelerator.prepare(model, self.optimizer(model))

    def go(self, run: tuple[Any, Any, Any], steps: int) -> None:
        accelerator, model, optimizer = run
        self.train(model, steps, optimizer=optimizer, backward=accelerator.backward)

    def generate(self, folder: Path) -> str:
        """`sample` draws the same pictures for the same seeds, in the range that was asked for."""
        model = self.case.model()
        classes = torch.eye(3)[:2]
        pictures = [model.sample(2, seed=seed, c=classes) for seed in (0, 0, 1)]
        side = model.config.img_resolution
        if pictures[0].shape != (2, 3, side, side):
            raise AssertionError(f"two pictures were asked for, `sample` gave the shape {tuple(pictures[0].shape)}")
        check_equal({"images": pictures[1]}, {"images": pictures[0]}, "drawn again from the same seed")
        if torch.equal(pictures[2], pictures[0]):
            raise AssertionError("another seed draws the same pictures")
        return "`sample` draws pictures; there are no tokens"


PROBES = HouseholderProbes
