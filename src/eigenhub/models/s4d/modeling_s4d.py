# SPDX-License-Identifier: Apache-2.0
"""S4D models. `config.init` makes them S4D-LegS, S4D-Lin, S4D-Inv, S4-PTD or one of the controls."""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from eigenhub.models.s4d.configuration_s4d import S4DConfig
from eigenhub.models.s4d.layer_s4d import S4DMixer
from eigenhub.models.s4d.ssm_s4d import S4DSSM
from eigenhub.models.state_space.causal_lm import StateSpaceForCausalLM
from eigenhub.models.state_space.heads import (
    StateSpaceForAudioClassification,
    StateSpaceForImageClassification,
    StateSpaceForSequenceClassification,
    StateSpaceForSequencePairClassification,
)
from eigenhub.models.state_space.modeling_state_space import StateSpaceModel, StateSpacePreTrainedModel


class S4DPreTrainedModel(StateSpacePreTrainedModel):
    """Loading, saving and starting values of S4D models."""

    config: S4DConfig
    _keep_in_fp32_modules_strict = [*S4DSSM.float32_names, "running_mean", "running_var"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, S4DSSM):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5  # torch's own start, which the official code keeps
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=module.embedding_dim**-0.5)


class S4DModel(S4DPreTrainedModel, StateSpaceModel):
    """S4D without a head.

    Args:
        config (`S4DConfig`): configuration.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s4d import S4DConfig, S4DModel
    >>> model = S4DModel(S4DConfig(input_size=3, hidden_size=16, state_size=8, num_hidden_layers=1))
    >>> model(input_values=torch.randn(2, 50, 3)).last_hidden_state.shape
    torch.Size([2, 50, 16])
    ```
    """

    def make_mixer(self, config: Any) -> nn.Module:
        return S4DMixer(config)

    def ssm_stats(self) -> list[dict[str, float]]:
        """Smallest and largest time step, largest real part and largest modulus of each layer, to be logged in training."""
        return [module.stats() for module in self.modules() if isinstance(module, S4DSSM)]


class S4DForCausalLM(S4DPreTrainedModel, StateSpaceForCausalLM):
    """S4D as a language model, which generates with a state of constant size.

    Args:
        config (`S4DConfig`): configuration; not bidirectional, no batch norm.
    """

    backbone_class = S4DModel


class S4DForSequenceClassification(S4DPreTrainedModel, StateSpaceForSequenceClassification):
    """S4D with one label for a sequence of tokens or values.

    Args:
        config (`S4DConfig`): configuration.
    """

    backbone_class = S4DModel


class S4DForSequencePairClassification(S4DPreTrainedModel, StateSpaceForSequencePairClassification):
    """S4D with one label for a pair of sequences `(batch, 2, length)`: the retrieval task of the Long Range Arena.

    Args:
        config (`S4DConfig`): configuration.
    """

    backbone_class = S4DModel


class S4DForImageClassification(S4DPreTrainedModel, StateSpaceForImageClassification):
    """S4D with one label for an image, read pixel by pixel.

    Args:
        config (`S4DConfig`): configuration; `input_size` is the number of channels.
    """

    backbone_class = S4DModel


class S4DForAudioClassification(S4DPreTrainedModel, StateSpaceForAudioClassification):
    """S4D with one label for a raw waveform; `config.step_rescale = 2.0` reads audio at half the rate of training.

    Args:
        config (`S4DConfig`): configuration; `input_size` is 1.
    """

    backbone_class = S4DModel
