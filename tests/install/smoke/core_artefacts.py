# SPDX-License-Identifier: Apache-2.0
"""One artefact of every kind that the core alone makes: train, save, load in a fresh process, export."""

import subprocess
import sys
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from eigenhub import SorsaConfig
from eigenhub.models.s5_ptd import S5Config, S5ForCausalLM
from eigenhub.optim import DCTAdamW, build_param_groups
from eigenhub.tuners.sorsa import SorsaRegularizerCallback


IDS = torch.arange(12).reshape(1, 12)
LOAD = """
import sys
import torch
import eigenhub.auto
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

adapter, model = AutoPeftModelForCausalLM.from_pretrained("adapter"), AutoModelForCausalLM.from_pretrained("model")
with torch.no_grad():
    ids = torch.arange(12).reshape(1, 12)
    torch.save([net.eval()(input_ids=ids).logits for net in (adapter, model)], "loaded.pt")
"""


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def train_adapter() -> PeftModel:
    """A SORSA adapter on a tiny Llama, a few steps of the Trainer with the regulariser."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).save_pretrained("base")
    base = LlamaForCausalLM.from_pretrained("base")
    model = get_peft_model(base, SorsaConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    before = logits(model)
    rows = [{"input_ids": IDS[0], "labels": IDS[0]}] * 8
    args = TrainingArguments("run", max_steps=3, learning_rate=1e-2, report_to="none", disable_tqdm=True, use_cpu=True)
    Trainer(model, args, train_dataset=rows, callbacks=[SorsaRegularizerCallback()]).train()
    assert (logits(model) - before).abs().max() > 1e-4
    model.save_pretrained("adapter")
    return model


def step_optimizer() -> None:
    """DCT-AdamW lowers a loss."""
    model = LlamaForCausalLM.from_pretrained("base")
    optimizer = DCTAdamW(build_param_groups(model), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model.train()(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses


def save_model() -> S5ForCausalLM:
    """A state-space model whose weights were drawn here."""
    model = S5ForCausalLM(S5Config(vocab_size=32, hidden_size=16, state_size=16, num_blocks=1))
    model.save_pretrained("model")
    return model


def export(folder: str, out: str) -> None:
    command = [Path(sys.executable).parent / "eigenhub", "export", folder, out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def main() -> None:
    adapted = train_adapter()
    step_optimizer()
    expected = [logits(adapted), logits(save_model())]
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for loaded, kept in zip(torch.load("loaded.pt"), expected, strict=True):
        torch.testing.assert_close(loaded, kept)
    export("adapter", "lora")
    lora = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained("base"), "lora")
    assert lora.peft_config["default"].peft_type == "LORA"
    torch.testing.assert_close(logits(lora), expected[0], rtol=1e-4, atol=1e-5)
    export("model", "with_code")
    assert list(Path("with_code").glob("modeling_*.py"))
    print("adapter trained, saved, loaded, exported; optimizer stepped; model saved, loaded, exported")


if __name__ == "__main__":
    main()
