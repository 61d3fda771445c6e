# SPDX-License-Identifier: Apache-2.0
"""Extra `dp`: one federated round with differential privacy."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from eigenhub.federated import DPConfig, FederatedLoraTrainer, FedSVDConfig


torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
base = BertForSequenceClassification(BertConfig(vocab_size=32, num_labels=2, **sizes))
model = get_peft_model(base, LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS"))
rows = [
    {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[0] % 2}
    for ids in torch.randint(32, (24, 8))
]
budget = DPConfig(target_epsilon=8.0, target_delta=1e-2, accountant="rdp", max_grad_norm=1.0)
trainer = FederatedLoraTrainer(
    model,
    TrainingArguments("run", report_to="none", use_cpu=True, disable_tqdm=True, optim="sgd", learning_rate=0.1),
    {"first": rows[:12], "second": rows[12:]},
    config=FedSVDConfig(num_rounds=1, local_steps=2, client_fraction=1.0, dp=budget),
)
trainer.train()
spent = max(trainer.ledger.spent().values())
assert 0 < spent <= 8.0, spent
print(f"one private round, epsilon {spent:.2f} of 8")
