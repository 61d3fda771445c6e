# SPDX-License-Identifier: Apache-2.0
"""Extra `flower`: a round of the strategy with the client app, all in one process."""

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from eigenhub.federated import FedSVDConfig
from eigenhub.federated.flower import FedSVDStrategy, InProcessGrid, make_client_app


def make_model() -> PeftModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = BertForSequenceClassification(BertConfig(vocab_size=32, num_labels=2, **sizes))
    return get_peft_model(base, LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS"))


rows = Dataset.from_dict({"input_ids": torch.arange(96).reshape(12, 8).remainder(32).tolist(), "labels": [0, 1] * 6})
app = make_client_app(
    model_fn=lambda context: make_model(),
    data_fn=lambda context: rows.with_format("torch"),
    args=TrainingArguments("run", report_to="none", use_cpu=True, disable_tqdm=True, optim="sgd", learning_rate=0.1),
)
config = FedSVDConfig(num_rounds=1, local_steps=2, client_fraction=1.0)
strategy = FedSVDStrategy(config, make_model(), fraction_evaluate=0.0)
with InProcessGrid(app, 2) as grid:
    strategy.run(grid)
assert strategy.server.round == 1 and any(tensor.any() for tensor in strategy.server.state.values())
print("one round of two clients on Flower")
