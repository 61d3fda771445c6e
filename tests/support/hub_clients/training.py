# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny GPT-2 with Trainer, pushes it by `Trainer.push_to_hub` and prints its last loss."""

import json

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from tests.support.data import counting_rows
from tests.support.models import tiny_gpt2


rows = counting_rows(16)
arguments = TrainingArguments(
    "run",
    max_steps=2,
    learning_rate=0.1,
    use_cpu=True,
    hub_model_id="tester/trained",
    push_to_hub=True,
    logging_steps=1,
    save_steps=1,
)
data = Dataset.from_dict({"input_ids": rows, "labels": rows})
trainer = Trainer(model=tiny_gpt2(), args=arguments, train_dataset=data)
trainer.train()
trainer.push_to_hub(commit_message="end of training")
with torch.no_grad():
    batch = torch.tensor(rows)
    print(json.dumps(trainer.model.eval()(batch, labels=batch).loss.item()))
