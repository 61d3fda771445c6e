# SPDX-License-Identifier: Apache-2.0
"""Pushes a data set with two splits and a second configuration."""

from datasets import Dataset, DatasetDict


rows = Dataset.from_dict({"text": [f"row {index}" for index in range(8)], "label": list(range(8))})
DatasetDict(train=rows, test=rows.select(range(2))).push_to_hub("tester/rows")
rows.select([7]).push_to_hub("tester/rows", config_name="last")
