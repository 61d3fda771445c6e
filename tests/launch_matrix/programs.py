# SPDX-License-Identifier: Apache-2.0
"""The rows: every program that trains, at the tiny setting of its own tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from tests.common.script_tester import ScriptTester


TOLERANCE = 1e-4
SHARDED = ("fsdp2", "zero2", "zero3")


@dataclass(frozen=True)
class Program:
    """A row.

    Args:
        script (`str`): path below `scripts/`.
        module (`str`, *optional*, defaults to `""`): module of its tests.
        tester (`str`, *optional*, defaults to `""`): subclass of `ScriptTester` there.
        flags (`tuple[str, ...]`, *optional*): for numbers that do not depend on the number of processes, such as no dropout.
        tolerance (`float`, *optional*, defaults to 1e-4): largest difference of a weight from that of one process.
        steps (`int`, *optional*): of a run; by default those of its tests.
        statistics (`bool`, *optional*, defaults to `False`): whether it has batch norm, whose running statistics depend on how
            rows are shared out: they are left out, and so are figures that are measured with them.
        apart (`str`, *optional*, defaults to `""`): why several processes do not end in the weights of one.
        inapplicable (`dict[str, str]`, *optional*): columns that mean nothing here, with the reason.
    """

    script: str
    module: str = ""
    tester: str = ""
    flags: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    steps: int | None = None
    statistics: bool = False
    apart: str = ""
    inapplicable: dict[str, str] = field(default_factory=dict)

    @property
    def comparison(self) -> str:
        """What is to be known of the comparison with one process; empty if it is the usual one."""
        said = [f"within {self.tolerance:g}"] if self.tolerance != TOLERANCE else []
        said += ["without the running statistics of batch norm"] if self.statistics else []
        return f"compared {', '.join(said)}" if said else ""

    def case(self, folder: Path) -> type[ScriptTester]:
        """Its tests' class with the settings of the table.

        Args:
            folder (`Path`): for what the arguments name: a corpus, a model.
        """
        module = import_module(f"tests.scripts.{self.module}")
        tester = getattr(module, self.tester)
        save_inputs: Callable[[Path], tuple[str, ...]] | None = getattr(module, "save_inputs", None)
        plain = getattr(tester, "arguments", ())
        given = (*plain, *save_inputs(folder)) if save_inputs else plain
        own = {"arguments": (*given, *ACCUMULATED, *self.flags), "max_steps": self.steps or tester.max_steps}
        return type(tester.__name__, (tester,), own)


#: One process takes two batches per step; two take one each, and then these are the same rows.
ACCUMULATED = ("--gradient_accumulation_steps", "2")
NOISE = "every process draws its own latents"
PROGRAMS = (
    # Under DeepSpeed clipping sees the penalty, which is part of the loss there: compared without.
    Program("sorsa/train_sorsa.py", "test_train_sorsa", "TestSorsaScript", ("--dropout", "0", "--max_grad_norm", "0")),
    # Adam makes of a rounding in a gradient near zero a step of the learning rate, 1e-2 here.
    Program("bt2/train_bt2.py", "test_train_bt2", "TestBt2Script", tolerance=2e-3, statistics=True),
    Program("dct/train_lm.py", "test_train_lm", "TestTextInMemory"),
    Program("s5_ptd/train_lm.py", "test_train_ssm_lm", "TestTrainLm"),
    # Of batch norm's running mean the last batch of every process counts, not all: compared with layer norm.
    # The best weights on the way are not kept in shards: compared with the last ones.
    Program(
        "s5_ptd/train_lra.py",
        "test_train_lra",
        "TestTrainLra",
        ("--hidden_dropout", "0", "--norm_type", "layer", "--no-keep_best"),
        steps=30,  # an epoch has an odd number of batches: two processes leave the last one out, and so differ from step 34 on
    ),
    # Small batches, so that no epoch ends: several processes fill up its last batch with rows from its beginning.
    Program("send/train_send.py", "test_train_send", "TestSenDScript", ("--per_device_batch_size", "8")),
    Program("householder/train_stylegan2.py", "test_train_stylegan2", "TestStyleGAN2Script", apart=NOISE),
    Program("householder/finetune_projector.py", "test_finetune_projector", "TestProjectorScript", apart=NOISE),
    Program("fedsvd/train_fedsvd.py", "test_train_fedsvd", "TestFedSvdScript"),
    Program(
        "fedsvd/flower_app",
        inapplicable=dict.fromkeys(
            ("one", "two", *SHARDED, "kill"),
            "started by `flwr run`: server and clients are processes of Flower, see its README",
        ),
    ),
    Program(
        "send/score.py",
        inapplicable=dict.fromkeys(
            ("one", "two", *SHARDED, "kill"),
            "trains nothing and runs in one process; killed and resumed in `tests/scripts/test_send_score.py`",
        ),
    ),
)
