# SPDX-License-Identifier: Apache-2.0
"""Loads the data set of `dataset_push.py` and prints its rows."""

import json

from datasets import load_dataset


both = load_dataset("tester/rows", "default")
last = load_dataset("tester/rows", "last", split="train")
print(json.dumps({"train": both["train"]["label"][:], "test": len(both["test"]), "last": last[0]}))
