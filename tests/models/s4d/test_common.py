# SPDX-License-Identifier: Apache-2.0
"""S4D under the common tester of models: an audio classifier with S4-PTD inside, and a language model."""

import pytest

from eigenhub.models.s4d import S4DAdamW, S4DForAudioClassification, S4DForCausalLM
from tests.common.model_saving import Saving
from tests.common.model_tester import ModelTester, classes, tokens, wave
from tests.common.model_training import Training


FLOAT32 = ("A_real", "A_imag", "inv_dt", "state_weight", "running_mean", "running_var")
TINY = {"hidden_size": 6, "state_size": 8, "num_hidden_layers": 2}


class TestS4DForAudioClassification(ModelTester):
    """Both directions, S4-PTD, systems shared by channels, a band limit, pads."""

    model_class = S4DForAudioClassification
    config = TINY | {
        "input_size": 1,
        "init": "ptd",
        "bidirectional": True,
        "n_ssm": 2,
        "bandlimit": 1.5,
        "dt_transform": "softplus",
        "num_labels": 3,
    }
    smallest = {"hidden_size": 2, "state_size": 4, "num_hidden_layers": 1, "init": "lowrank"}
    auto_class = "AutoModelForAudioClassification"
    float32_names = FLOAT32
    trainer_keywords = {"optimizer_cls_and_kwargs": (S4DAdamW, {"lr": 1e-2, "weight_decay": 0.05})}
    bad_configs = [
        ({"state_size": 7}, "`state_size` must be even, got 7"),
        ({"n_ssm": 4}, "`n_ssm` must divide `hidden_size`, got 4 and 6"),
        ({"ssm_lr": -1.0}, "`ssm_lr` must not be negative, got -1.0"),
        ({"bandlimit": 0.0}, "`bandlimit` must be positive, got 0.0"),
        ({"discretization": "dss", "conv_backend": "chunk"}, "`discretization='dss'` needs `conv_backend`"),
        ({"b_scale": 0}, "`b_scale` must be positive and finite, got 0"),
        ({"init": "real", "real_transform": "sigmoid"}, "`real_transform='sigmoid'` cannot start from"),
    ]

    test_push_and_pull_with_and_without_the_package = pytest.mark.slow(
        ModelTester.test_push_and_pull_with_and_without_the_package
    )

    @classmethod
    def inputs(cls, batch=2):
        values = wave(batch, 10)
        mask = (values > -0.99).long()
        mask[:, 8:] = 0
        return {"input_values": values, "attention_mask": mask, "labels": classes(batch, 3)}


class TestS4DForCausalLM(Saving, Training):
    model_class = S4DForCausalLM
    config = TINY | {"vocab_size": 11, "init": "lin", "dt_per_state": True, "tie_word_embeddings": True}
    smallest = {"hidden_size": 2, "state_size": 4, "num_hidden_layers": 1}
    auto_class = "AutoModelForCausalLM"
    float32_names = FLOAT32
    compiles = True
    bad_configs = [
        ({"bidirectional": True}, "`bidirectional` must be False"),
        ({"norm_type": "batch"}, "`norm_type='batch'` leaks across time"),
    ]

    test_compiles_without_graph_breaks = pytest.mark.slow(Training.test_compiles_without_graph_breaks)

    @classmethod
    def inputs(cls, batch=2):
        ids = tokens(batch, 9, 11)
        return {"input_ids": ids, "labels": ids}
