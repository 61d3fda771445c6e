# SPDX-License-Identifier: Apache-2.0
"""S5 and S5-PTD: sequence models of linear cost whose state matrix starts from HiPPO, perturbed and then diagonalised."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTimeSeriesPrediction,
)

from eigenhub.models.s5_ptd.configuration_s5_ptd import S5Config
from eigenhub.models.s5_ptd.modeling_s5_ptd import (
    S5Cache,
    S5ForAudioClassification,
    S5ForCausalLM,
    S5ForImageClassification,
    S5ForSequenceClassification,
    S5ForSequencePairClassification,
    S5ForTimeSeriesRegression,
    S5Model,
)
from eigenhub.models.s5_ptd.optimizer_s5 import S5AdamW, s5_param_groups
from eigenhub.models.state_space.fourier_noise import FourierNoise


AutoConfig.register(S5Config.model_type, S5Config, exist_ok=True)
AutoModel.register(S5Config, S5Model, exist_ok=True)
AutoModelForCausalLM.register(S5Config, S5ForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(S5Config, S5ForSequenceClassification, exist_ok=True)
AutoModelForImageClassification.register(S5Config, S5ForImageClassification, exist_ok=True)
AutoModelForAudioClassification.register(S5Config, S5ForAudioClassification, exist_ok=True)
AutoModelForTimeSeriesPrediction.register(S5Config, S5ForTimeSeriesRegression, exist_ok=True)

__all__ = [
    "FourierNoise",
    "S5AdamW",
    "S5Cache",
    "S5Config",
    "S5ForAudioClassification",
    "S5ForCausalLM",
    "S5ForImageClassification",
    "S5ForSequenceClassification",
    "S5ForSequencePairClassification",
    "S5ForTimeSeriesRegression",
    "S5Model",
    "s5_param_groups",
]
