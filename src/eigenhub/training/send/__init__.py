# SPDX-License-Identifier: Apache-2.0
"""Sensitivity Dropout (SenD): drop the embedding indices that move most between checkpoints (arXiv 2410.15460).

[`SenDTrainer`] is a `Trainer` with it, [`SenDCallback`] adds it to any other. [`SenDConfig`] has the controls in one switch:
random indices, dropout, averaged weights.
"""

from eigenhub.training.send.average import WeightAverage
from eigenhub.training.send.bake import bake
from eigenhub.training.send.callback import SenDCallback
from eigenhub.training.send.config import SenDConfig
from eigenhub.training.send.gate import ActivationGate
from eigenhub.training.send.runtime import SenDRuntime, remove_send, runtime_of
from eigenhub.training.send.sensitivity import SensitivityTracker, most_sensitive, sensitivity
from eigenhub.training.send.tracking import split_tracking, tracked_embeddings
from eigenhub.training.send.trainer import SenDTrainer, SenDTrainerMixin


__all__ = [
    "ActivationGate",
    "SenDCallback",
    "SenDConfig",
    "SenDRuntime",
    "SenDTrainer",
    "SenDTrainerMixin",
    "SensitivityTracker",
    "WeightAverage",
    "bake",
    "most_sensitive",
    "remove_send",
    "runtime_of",
    "sensitivity",
    "split_tracking",
    "tracked_embeddings",
]
