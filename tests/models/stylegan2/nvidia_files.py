# SPDX-License-Identifier: Apache-2.0
"""Pickles with the structure of NVIDIA's: objects that name `torch_utils.persistence` and bring the source of their classes.

While a file is written, modules of those names stand in for the code; they are gone when it is read.
"""

import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from eigenhub.models.stylegan2.nvidia_format import nvidia_kwargs, nvidia_state_dict


SOURCE = "raise SystemExit('the source of the file was run')"


def _reconstruct_persistent_obj(meta):
    raise AssertionError("only its name goes to the file")


class EasyDict(dict):
    pass


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
EasyDict.__module__ = "dnnlib.util"
EasyDict.__qualname__ = "EasyDict"


class Persistent:
    """An object that reduces itself as persistent classes do."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str = SOURCE) -> None:
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}

    def __reduce__(self):
        return _reconstruct_persistent_obj, (EasyDict(self.meta),), None


@contextmanager
def stand_ins():
    names = {
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
    }
    for name, content in names.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def module_tree(tensors: dict[str, torch.Tensor], class_name: str, arguments: dict[str, Any]) -> Persistent:
    """Nested modules with the attributes that `nn.Module` has, and numbers of numpy beside them."""
    children: dict[str, dict[str, torch.Tensor]] = {}
    own: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        head, dot, rest = name.partition(".")
        (children.setdefault(head, {}) if dot else own)[rest or head] = tensor
    buffers = {name for name in own if name in ("resample_filter", "noise_const", "w_avg")}
    state = {
        "training": False,
        "_parameters": OrderedDict((n, nn.Parameter(t)) for n, t in own.items() if n not in buffers),
        "_buffers": OrderedDict((n, own[n]) for n in sorted(buffers)),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_modules": OrderedDict((n, module_tree(t, "Layer", {})) for n, t in children.items()),
        "_init_args": (),
        "_init_kwargs": EasyDict(arguments),
        "weight_gain": np.float64(0.5),
        "size": np.int32(4),
    }
    return Persistent(class_name, state)


def nvidia_pickle(networks: dict[str, Any], protocol: int = 4, **arguments: Any) -> bytes:
    """A snapshot as `training_loop.py` writes it."""
    data: dict[str, Any] = {"augment_pipe": None, "training_set_kwargs": EasyDict(path="/data", use_labels=False)}
    for key, model in networks.items():
        kwargs = nvidia_kwargs(model) | arguments
        kwargs = {k: EasyDict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        data[key] = module_tree(nvidia_state_dict(model), "Discriminator" if key == "D" else "Generator", kwargs)
    return dumped(data, protocol)


def dumped(data: Any, protocol: int = 4) -> bytes:
    with stand_ins():
        return pickle.dumps(data, protocol=protocol)
