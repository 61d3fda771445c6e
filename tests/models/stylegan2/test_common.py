# SPDX-License-Identifier: Apache-2.0
"""The contract of the kind *model* for both networks of a pair. Each trains against the other, so there is no loss inside, and
`Trainer`, which knows one optimizer, is not promised.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eigenhub.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from tests.common.model_case import Inputs, assert_equal_tensors
from tests.common.model_hub import Hub
from tests.common.model_saving import Saving
from tests.common.model_tester import wave
from tests.common.model_training import Training
from tests.models.stylegan2.tiny import TINY, shaken
from tests.support.hub_server import HubServer


class StyleGAN2Case:
    """Mixed in before a tester."""

    config = TINY
    float32_names = ("left", "right", "log_scale", "gain", "signs")

    @classmethod
    def model(cls, seed: int = 0, **overrides: Any) -> Any:
        return shaken(super().model(seed, **overrides))  # type: ignore[misc]  # mixed in before a tester

    def test_hidden_states(self) -> None:
        """One per block; their shapes are those of the resolutions."""
        model = self.model()
        with torch.no_grad():
            plain = model(**self.questions())  # type: ignore[attr-defined]
            output = model(**self.questions(), output_hidden_states=True)  # type: ignore[attr-defined]
        assert plain.hidden_states is None
        sides = [state.shape[-1] for state in output.hidden_states]
        assert sides in ([4, 8, 16], [8, 4])
        assert torch.equal(output[0], plain[0])


class GeneratorCase(StyleGAN2Case):
    model_class = StyleGAN2Generator
    output = "images"

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return {"z": wave(batch, TINY["z_dim"])}

    @classmethod
    def loss(cls, model: Any, inputs: Inputs) -> torch.Tensor:
        side = model.config.img_resolution
        target = wave(1, 3, side, side, frequency=0.05)
        return (model(**inputs).images.float() - target).square().mean()


class TestStyleGAN2Generator(GeneratorCase, Saving, Training, Hub):
    auto_class = "AutoModel"
    compiles = True
    smallest = {"img_resolution": 8, "channel_max": 3, "z_dim": 6, "w_dim": 3, "mapping_layers": 1}
    bad_configs = [
        ({"img_resolution": 24}, "`img_resolution` must be a power of two, at least 8, got 24"),
        ({"img_resolution": 4}, "`img_resolution` must be a power of two, at least 8, got 4"),
        ({"img_channels": 0}, "`img_channels` must be at least 1, got 0"),
        ({"z_dim": 0}, "`z_dim` must be at least 1, got 0"),
        ({"c_dim": -1}, "`c_dim` must not be negative, got -1"),
        ({"channel_base": 8}, "`channel_base` must be at least `img_resolution` = 16, got 8"),
        ({"mbstd_channels": 5}, "`mbstd_channels` must divide 12, got 5"),
        ({"cmap_dim": 0}, "`cmap_dim` must be at least 1, got 0"),
        ({"mapping_lr_multiplier": 0.0}, "`mapping_lr_multiplier` must be positive, got 0"),
        ({"w_avg_beta": 1.0}, r"`w_avg_beta` must be in \[0, 1\), got 1"),
        ({"conv_clamp": 0.0}, "`conv_clamp` must be positive, got 0"),
        ({"resample_filter": [1, -1]}, "`resample_filter` must be two or more numbers of positive sum"),
        ({"projector_layers": "b8.conv0"}, "`projector_layers` must be 'upsample', 'all' or names among b4.conv1"),
        ({"projector_layers": ["b9.conv0"]}, "`projector_layers` must be"),
        ({"projector_layers": []}, "`projector_layers` must be"),
        ({"projector_layers": "upsample"}, "`projector_rank` must be between 1 and 8 for layer 'b8.conv0', got 10"),
        ({"projector_layers": "all", "projector_rank": 0}, "between 1 and 8 for layer 'b4.conv1', got 0"),
        ({"projector_gain": "max"}, "`gain` must be one of mean, unit, equalized"),
        ({"projector_parameterization": "qr"}, "projector_parameterization"),
        ({"projector_singular_values": "free"}, "projector_singular_values"),
    ]

    @pytest.mark.slow  # four processes that import everything
    @pytest.mark.hub
    def test_push_and_pull_with_and_without_the_package(self, hub_server: HubServer, tmp_path: Path) -> None:
        super().test_push_and_pull_with_and_without_the_package(hub_server, tmp_path)

    @pytest.mark.slow  # some ten seconds of tracing; the discriminator is traced by default
    def test_compiles_without_graph_breaks(self) -> None:
        super().test_compiles_without_graph_breaks()


class TestProjectedGenerator(GeneratorCase, Saving, Training, Hub):
    """Thin projectors with learned singular values in every layer, conditional."""

    config = TINY | {
        "c_dim": 3,
        "conv_clamp": 256.0,
        "projector_layers": ["b8.conv0", "b16.torgb"],
        "projector_rank": 2,
        "projector_singular_values": "learned",
    }
    smallest = {
        "img_resolution": 8,
        "channel_max": 3,
        "w_dim": 3,
        "mapping_layers": 1,
        "c_dim": 1,
        "projector_layers": ["b8.conv0"],
    }
    auto_class = "AutoModel"

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return super().inputs(batch) | {"c": torch.eye(3)[torch.arange(batch) % 3]}

    def test_gradients_are_those_of_finite_differences(self) -> None:
        """As in the tester; conditions are as long as the smaller configuration says."""
        Training.test_gradients_are_those_of_finite_differences(SmallestProjectedGenerator())

    @pytest.mark.slow
    def test_compiles_without_graph_breaks(self) -> None:
        Training.test_compiles_without_graph_breaks(SmallestProjectedGenerator())

    @pytest.mark.slow
    @pytest.mark.hub
    def test_push_and_pull_with_and_without_the_package(self, hub_server: HubServer, tmp_path: Path) -> None:
        super().test_push_and_pull_with_and_without_the_package(hub_server, tmp_path)


class SmallestProjectedGenerator(GeneratorCase, Training):
    config = TestProjectedGenerator.config
    smallest = TestProjectedGenerator.smallest
    compiles = True

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return super().inputs(batch) | {"c": torch.ones(batch, 1)}


class TestDenseProjectors(GeneratorCase, Saving):
    """The form of published checkpoints."""

    config = TINY | {
        "projector_layers": "upsample",
        "projector_rank": 3,
        "projector_gain": "unit",
        "projector_parameterization": "dense",
    }
    auto_class = "AutoModel"


class DiscriminatorCase(StyleGAN2Case):
    model_class = StyleGAN2Discriminator
    auto_class = "AutoModelForImageClassification"

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return {"pixel_values": wave(batch, 3, 16, 16, frequency=0.05)}

    @classmethod
    def loss(cls, model: Any, inputs: Inputs) -> torch.Tensor:
        return F.softplus(-model(**inputs).logits.float()).mean()


class TestStyleGAN2Discriminator(DiscriminatorCase, Saving, Training, Hub):
    """Without the comparison of samples, so that a sample does not depend on its batch."""

    config = TINY | {"mbstd_channels": 0}
    compiles = True
    smallest = {"channel_max": 2}

    @pytest.mark.slow
    @pytest.mark.hub
    def test_push_and_pull_with_and_without_the_package(self, hub_server: HubServer, tmp_path: Path) -> None:
        super().test_push_and_pull_with_and_without_the_package(hub_server, tmp_path)


class TestConditionalDiscriminator(DiscriminatorCase, Saving):
    config = TINY | {"c_dim": 3, "conv_clamp": 256.0, "cmap_dim": 5, "cmap_layers": 2}

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return super().inputs(batch) | {"c": torch.eye(3)[torch.arange(batch) % 3]}


@pytest.mark.parametrize("device_map", [None, {"": "cpu"}])
def test_a_pair_in_one_folder(device_map: Any, tmp_path: Path) -> None:
    """The generator at the root, the discriminator in a folder of its own below."""
    case, other = TestProjectedGenerator, TestStyleGAN2Discriminator
    model, judge = case.model(), other.model()
    model.save_pretrained(tmp_path)
    judge.save_pretrained(tmp_path / "discriminator")
    loaded = StyleGAN2Generator.from_pretrained(tmp_path, device_map=device_map)
    assert_equal_tensors(loaded, model)
    judged = StyleGAN2Discriminator.from_pretrained(tmp_path, subfolder="discriminator", device_map=device_map)
    assert_equal_tensors(judged, judge)
    assert torch.equal(case.answer(loaded), case.answer(model))


@pytest.mark.parametrize(("wanted", "held"), [(StyleGAN2Generator, "discriminator"), (StyleGAN2Discriminator, ".")])
def test_the_folder_of_the_other_network_is_refused(wanted: Any, held: str, tmp_path: Path) -> None:
    """They share a `model_type`, so that an Auto class cannot tell them apart, and would give a network of random weights."""
    TestProjectedGenerator.model().save_pretrained(tmp_path)
    TestStyleGAN2Discriminator.model().save_pretrained(tmp_path / "discriminator")
    with pytest.raises(
        ValueError, match=f"holds a StyleGAN2.*, not a {wanted.__name__}; AutoModel is for the generator"
    ):
        wanted.from_pretrained(tmp_path, subfolder=held if held != "." else "")
