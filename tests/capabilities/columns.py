# SPDX-License-Identifier: Apache-2.0
"""The columns of the table: what each probe does, in words that the page repeats."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One capability.

    Args:
        key (`str`): name of the method of [`Probes`] that measures it.
        title (`str`): head of the column.
        legend (`str`): what the probe does.
    """

    key: str
    title: str
    legend: str


COLUMNS = (
    Column(
        "save_load",
        "save/load",
        "What training left is saved, loaded into fresh objects, and computes the same to the bit. For the optimizers this is the state: "
        "saved with `torch.save`, loaded with `weights_only=True`, and the next steps are the same to the bit.",
    ),
    Column(
        "export",
        "export without the package",
        "The exported or saved form is loaded in a fresh process in which `eigenhub` cannot be imported, by stock PEFT or transformers "
        "(with `trust_remote_code=True` for models), and computes the same up to 1e-5.",
    ),
    Column(
        "bf16",
        "bf16",
        "Training (five steps or more) with the model in bfloat16, or the base model of adapters, which keep "
        "their float32: every loss is finite, the last is below the first, and none is further than 5 % from that "
        "of the same run in float32.",
    ),
    Column(
        "gradient_checkpointing",
        "gradient checkpointing",
        "The gradients with and without checkpointing are equal to the bit, and every block has run twice. For "
        "the optimizers, the callback and the federated method: the weights after training are the same.",
    ),
    Column(
        "compile",
        "torch.compile",
        "`torch.compile` with the backend `aot_eager`: dynamo traces, the forward and the backward graph are "
        "made, and both run without inductor's C++ compiler. The gradients equal those without compilation; the "
        "callback and the federated method end with the same weights. First with `fullgraph=True`, so that a "
        "graph break is an error; where it is one, breaks are counted. For the optimizers: two compiled steps.",
    ),
    Column(
        "ddp",
        "DDP",
        "Two gloo processes under accelerate, each with half of every batch, end with the weights of one process "
        "that sees whole batches (three steps or more; 2e-4 absolute, 1e-3 relative).",
    ),
    Column(
        "fsdp2",
        "FSDP2",
        "The same with accelerate's FSDP2, which calls `fully_shard` on each block; that parameters are DTensors "
        "is checked.",
    ),
    Column(
        "resume",
        "resume",
        "A run stopped half-way and resumed in fresh objects from its checkpoint ends with the weights of the straight run, to the bit.",
    ),
    Column(
        "quantized",
        "quantised base",
        "A base model loaded by bitsandbytes in 8 bits and in 4 bits (NF4) trains with the method; a model of the "
        "method is itself the base, and LoRA trains on it. The losses are finite and fall.",
    ),
    Column(
        "peft",
        "PEFT",
        "The method is a PEFT tuner, or a LoRA adapter of stock PEFT trains with it and on it, and what is saved loads through `PeftModel` with the same output to the bit.",
    ),
    Column(
        "generate",
        "generate",
        "`generate` gives as many tokens as asked for, the same with and without its cache. For the image generator: `sample`.",
    ),
    Column(
        "space",
        "Space",
        "`spaces/<method>/app.py` is imported from its folder, builds `gradio.Blocks` without launching, and its public named endpoints are "
        "those that its tests call.",
    ),
    Column(
        "script",
        "script",
        "`--help` of the training script without any heavy package installed, then a run of two steps on tiny settings in a fresh process: "
        "two finite losses, and a summary at the end.",
    ),
)
