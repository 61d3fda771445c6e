# SPDX-License-Identifier: Apache-2.0
"""S5 under the common tester of models: a language model, a bidirectional classifier of images, and the pair classifier."""

from eigenhub.models.s5_ptd import (
    S5AdamW,
    S5ForCausalLM,
    S5ForImageClassification,
    S5ForSequencePairClassification,
)
from tests.common.model_saving import Saving
from tests.common.model_tester import ModelTester, classes, tokens, wave
from tests.common.model_training import Training


FLOAT32 = ("Lambda_re", "Lambda_im", "log_step", "state_weight", "running_mean", "running_var")
TINY = {"hidden_size": 6, "state_size": 16, "num_blocks": 2, "num_hidden_layers": 2}
FACTORY = {"optimizer_cls_and_kwargs": (S5AdamW, {"lr": 1e-2, "ssm_lr": 1e-3, "weight_decay": 0.05})}


class TestS5ForCausalLM(ModelTester):
    model_class = S5ForCausalLM
    config = TINY | {"vocab_size": 11, "c_init": "trunc_standard_normal"}
    smallest = {"hidden_size": 3, "state_size": 4, "num_blocks": 1, "num_hidden_layers": 1, "init": "lowrank"}
    auto_class = "AutoModelForCausalLM"
    float32_names = FLOAT32
    compiles = True
    trainer_keywords = FACTORY
    bad_configs = [
        ({"bidirectional": True}, "`bidirectional` must be False"),
        ({"norm_type": "batch"}, "`norm_type='batch'` leaks across time"),
        ({"vocab_size": None, "input_size": 2}, "`vocab_size` must be given"),
        ({"num_blocks": 3}, "`num_blocks` must divide `state_size`, got 3 and 16"),
        ({"state_size": 0}, "`state_size` must be at least 1, got 0"),
        ({"input_size": 3}, "either `vocab_size` or `input_size`, got 11 and 3"),
        ({"dt_min": 0.2}, "0 < dt_min <= dt_max, got 0.2 and 0.1"),
        ({"dt_max": float("inf")}, "`dt_min` and `dt_max` must be finite and 0 < dt_min <= dt_max, got 0.001 and inf"),
        ({"hidden_dropout": 1.0}, "`hidden_dropout` must be at least 0 and below 1, got 1.0"),
        ({"step_rescale": 0}, "`step_rescale` must be positive and finite, got 0"),
        ({"step_rescale": float("inf")}, "`step_rescale` must be positive and finite, got inf"),
        ({"initializer_range": -0.1}, "`initializer_range` must be finite and not negative, got -0.1"),
        ({"init": "s4"}, "init"),
        ({"init": "lin", "b_init": "hippo"}, "`b_init='hippo'` needs `init`"),
        ({"init": "lin", "num_blocks": 16}, "`init='lin'` needs systems of even size, got 1"),
        ({"ptd_method": "given"}, "`ptd_perturbation` must be given"),
        (
            {"ptd_method": "given", "ptd_perturbation": [[0.0]]},
            r"must have shape \(8, 8\) or \(8, 8, 2\), got \(1, 1\)",
        ),
        *(
            ({"ptd_method": "given", "ptd_perturbation": matrix}, f"`ptd_perturbation` must be {what}")
            for matrix, what in (
                (["text"] * 8, "nested lists of numbers"),
                ([[0.0] * 8, [0.0]], "nested lists of numbers"),
                ([[float("nan")] * 8] * 8, "finite"),
            )
        ),
        (
            {"ptd_method": "given", "ptd_perturbation": [((0.0, 0.0),) * 8] * 8},
            "a complex `ptd_perturbation` has no conjugate pairs to halve",
        ),
        ({"ptd_tau": 0.0}, "`ptd_tau` must be above 0 and at most 1, got 0.0"),
        ({"ptd_gamma": -1.0}, "`ptd_gamma` must be positive"),
    ]

    @classmethod
    def inputs(cls, batch=2):
        ids = tokens(batch, 9, 11)
        return {"input_ids": ids, "labels": ids}


class TestS5ForImageClassification(Saving, Training):
    """Both directions, batch norm after the sum, the gate with two matrices, one time step per block."""

    model_class = S5ForImageClassification
    config = TINY | {
        "input_size": 2,
        "bidirectional": True,
        "norm_type": "batch",
        "prenorm": False,
        "activation": "full_glu",
        "dt_tying": "block",
        "num_labels": 3,
        "init": "legs",
        "conj_sym": "none",
        "c_init": "trunc_standard_normal",
    }
    smallest = {"hidden_size": 3, "num_hidden_layers": 1}
    auto_class = "AutoModelForImageClassification"
    float32_names = FLOAT32

    @classmethod
    def inputs(cls, batch=2):
        return {"pixel_values": wave(batch, 2, 3, 4), "labels": classes(batch, 3)}


class TestS5ForSequencePairClassification(Saving, Training):
    model_class = S5ForSequencePairClassification
    config = TINY | {"vocab_size": 11, "activation": "half_glu2", "init": "lowrank", "pooling": "last"}
    float32_names = FLOAT32

    @classmethod
    def inputs(cls, batch=2):
        ids = tokens(batch, 14, 11, first=1).view(batch, 2, 7)
        mask = (ids > 0).long()
        mask[:, 1, 5:] = 0
        return {"input_ids": ids, "attention_mask": mask, "labels": classes(batch, 2)}
