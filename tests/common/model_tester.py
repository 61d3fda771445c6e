# SPDX-License-Identifier: Apache-2.0
"""The contract of the kind *model*: what transformers' own models do, and that a stranger can load one without this package.

A model enters by one class:

```python
class TestMethodForImageClassification(ModelTester):
    model_class = MethodForImageClassification
    config = {"hidden_size": 8, "num_hidden_layers": 2}
    auto_class = "AutoModelForImageClassification"

    @classmethod
    def inputs(cls, batch=2):
        return {"pixel_values": wave(batch, 1, 4, 4), "labels": classes(batch, 3)}
```

A network without layers, labels or a `Trainer` mixes in only those parts that apply: `Saving`, `Training`, `UnderTrainer`, `Hub`.
"""

import torch
from torch import Tensor

from tests.common.model_hub import Hub
from tests.common.model_saving import Saving
from tests.common.model_trainer import UnderTrainer
from tests.common.model_training import Training


class ModelTester(Saving, Training, UnderTrainer, Hub):
    """Everything a model must do; for the class attributes see the parts and [`ModelCase`]."""


def wave(batch: int, *shape: int, frequency: float = 0.7) -> Tensor:
    """Values between -1 and 1 that differ from sample to sample; a sample does not depend on the size of the batch."""
    size = torch.Size(shape).numel()
    return (frequency * torch.arange(batch * size, dtype=torch.float64)).sin().float().view(batch, *shape)


def tokens(batch: int, length: int, vocabulary: int, first: int = 0) -> Tensor:
    """Token ids from `first` on that differ from sample to sample."""
    index = torch.arange(batch * length)
    return (first + (index * index + 3 * index) % 97 % (vocabulary - first)).view(batch, length)


def classes(batch: int, number: int) -> Tensor:
    """Labels."""
    return torch.arange(batch) % number
