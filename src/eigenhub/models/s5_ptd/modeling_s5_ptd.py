# SPDX-License-Identifier: Apache-2.0
"""S5 models. `config.init` makes them S5-PTD (`"ptd"`, `"lowrank"`), S5 (`"legs"`) or one of the controls."""

from typing import Any

import torch
from torch import nn

from eigenhub.models.s5_ptd.configuration_s5_ptd import S5Config
from eigenhub.models.s5_ptd.mixer_s5 import S5Mixer
from eigenhub.models.s5_ptd.ssm_s5 import S5SSM
from eigenhub.models.state_space.cache import StateSpaceCache
from eigenhub.models.state_space.causal_lm import StateSpaceForCausalLM
from eigenhub.models.state_space.encoder import TokenEncoder
from eigenhub.models.state_space.heads import (
    StateSpaceForAudioClassification,
    StateSpaceForImageClassification,
    StateSpaceForSequenceClassification,
    StateSpaceForSequencePairClassification,
    StateSpaceForTimeSeriesRegression,
)
from eigenhub.models.state_space.initialization import lecun_linear
from eigenhub.models.state_space.modeling_state_space import StateSpaceModel, StateSpacePreTrainedModel


class S5Cache(StateSpaceCache):
    __doc__ = StateSpaceCache.__doc__


class S5PreTrainedModel(StateSpacePreTrainedModel):
    """Loading, saving and starting values of S5 models."""

    config: S5Config
    cache_class = S5Cache
    _keep_in_fp32_modules_strict = [*S5SSM.float32_names, "running_mean", "running_var"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, S5SSM):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            lecun_linear(module.weight, module.bias, module.in_features)
        elif isinstance(module, TokenEncoder):
            lecun_linear(module.embed_tokens.weight, module.token_bias, module.embed_tokens.num_embeddings)


class S5Model(S5PreTrainedModel, StateSpaceModel):
    """S5 without a head.

    Args:
        config (`S5Config`): configuration.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s5_ptd import S5Config, S5Model
    >>> model = S5Model(S5Config(input_size=3, hidden_size=16, state_size=16, num_blocks=1, num_hidden_layers=1))
    >>> model(input_values=torch.randn(2, 50, 3)).last_hidden_state.shape
    torch.Size([2, 50, 16])
    ```
    """

    irregular_times = True

    def make_mixer(self, config: Any) -> nn.Module:
        return S5Mixer(config)


class S5ForCausalLM(S5PreTrainedModel, StateSpaceForCausalLM):
    """S5 as a language model, which generates with a state of constant size.

    Args:
        config (`S5Config`): configuration; not bidirectional, no batch norm.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s5_ptd import S5Config, S5ForCausalLM
    >>> model = S5ForCausalLM(S5Config(vocab_size=32, hidden_size=16, state_size=16, num_blocks=1, num_hidden_layers=1))
    >>> model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4, do_sample=False).shape
    torch.Size([1, 7])
    ```
    """

    backbone_class = S5Model


class S5ForSequenceClassification(S5PreTrainedModel, StateSpaceForSequenceClassification):
    """S5 with one label for a sequence of tokens or values.

    Args:
        config (`S5Config`): configuration.
    """

    backbone_class = S5Model


class S5ForSequencePairClassification(S5PreTrainedModel, StateSpaceForSequencePairClassification):
    """S5 with one label for a pair of sequences `(batch, 2, length)`: the retrieval task of the Long Range Arena.

    Args:
        config (`S5Config`): configuration.
    """

    backbone_class = S5Model


class S5ForImageClassification(S5PreTrainedModel, StateSpaceForImageClassification):
    """S5 with one label for an image, read pixel by pixel.

    Args:
        config (`S5Config`): configuration; `input_size` is the number of channels.
    """

    backbone_class = S5Model


class S5ForAudioClassification(S5PreTrainedModel, StateSpaceForAudioClassification):
    """S5 with one label for a raw waveform; `config.step_rescale = 2.0` reads audio at half the rate of training.

    Args:
        config (`S5Config`): configuration; `input_size` is 1.
    """

    backbone_class = S5Model


class S5ForTimeSeriesRegression(S5PreTrainedModel, StateSpaceForTimeSeriesRegression):
    """S5 with values at every step of a sequence, whose steps may be unevenly spaced (`timestamps`, `time_deltas`).

    Args:
        config (`S5Config`): configuration.
    """

    backbone_class = S5Model
