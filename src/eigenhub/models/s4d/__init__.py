# SPDX-License-Identifier: Apache-2.0
"""S4D and S4-PTD: a diagonal system for every channel, trained as a convolution and run as a recurrence."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from eigenhub.linalg.ssm_kernel import s4d_kernel
from eigenhub.models.s4d.configuration_s4d import S4DConfig
from eigenhub.models.s4d.layer_s4d import S4DLayer
from eigenhub.models.s4d.modeling_s4d import (
    S4DForAudioClassification,
    S4DForCausalLM,
    S4DForImageClassification,
    S4DForSequenceClassification,
    S4DForSequencePairClassification,
    S4DModel,
)
from eigenhub.models.s4d.official_names import convert_official_state_dict
from eigenhub.models.s4d.optimizer_s4d import S4DAdamW, s4d_param_groups


AutoConfig.register(S4DConfig.model_type, S4DConfig, exist_ok=True)
AutoModel.register(S4DConfig, S4DModel, exist_ok=True)
AutoModelForCausalLM.register(S4DConfig, S4DForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(S4DConfig, S4DForSequenceClassification, exist_ok=True)
AutoModelForImageClassification.register(S4DConfig, S4DForImageClassification, exist_ok=True)
AutoModelForAudioClassification.register(S4DConfig, S4DForAudioClassification, exist_ok=True)

__all__ = [
    "S4DAdamW",
    "S4DConfig",
    "S4DForAudioClassification",
    "S4DForCausalLM",
    "S4DForImageClassification",
    "S4DForSequenceClassification",
    "S4DForSequencePairClassification",
    "S4DLayer",
    "S4DModel",
    "convert_official_state_dict",
    "s4d_kernel",
    "s4d_param_groups",
]
