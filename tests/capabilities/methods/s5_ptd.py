# SPDX-License-Identifier: Apache-2.0
"""A language model of S5-PTD."""

from pathlib import Path

from tests.capabilities.compare import check_equal
from tests.capabilities.models import ModelProbes
from tests.models.s5_ptd.test_common import TestS5ForCausalLM


class S5Probes(ModelProbes):
    slug = "s5_ptd"
    case = TestS5ForCausalLM
    blocks = ("StateSpaceBlock",)
    lora_targets = ["gate", "lm_head"]
    quantized_config = {"hidden_size": 64}
    script_arguments = (
        *(
            "--task",
            "digits",
            "--hidden_size",
            "8",
            "--num_hidden_layers",
            "1",
            "--state_size",
            "8",
            "--num_blocks",
            "1",
        ),
        *("--init", "lowrank", "--per_device_batch_size", "2", "--warmup", "0"),
    )

    def generate(self, folder: Path) -> None:
        model, ids = self.case.model(), self.case.inputs()["input_ids"]
        settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
        runs = [model.generate(ids, **settings, use_cache=use) for use in (True, False)]
        if runs[0].shape[1] != ids.shape[1] + 5:
            raise AssertionError(f"5 new tokens were asked for, generate gave the shape {tuple(runs[0].shape)}")
        check_equal({"tokens": runs[1]}, {"tokens": runs[0]}, "generated without cache")


PROBES = S5Probes
