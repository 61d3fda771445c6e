# SPDX-License-Identifier: Apache-2.0
"""Pickles of NVIDIA's StyleGAN code as data: nothing that they name is imported, nothing that they bring is run.

Such a file holds the source of its classes, which the original loader executes. Here every global name stands for a function
of this module that keeps data, and whatever is not on the short list below is refused.
"""

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor


#: Kinds of numpy numbers that may occur: truth values, integers, floats.
NUMBER_KINDS = "biuf"


@dataclass(frozen=True)
class PersistentObject:
    """An object of a class whose source the file holds, as data.

    Args:
        class_name (`str`): name of the class.
        state (`dict`): its attributes.
    """

    class_name: str
    state: dict


@dataclass
class Dtype:
    """A numpy dtype of plain numbers.

    Args:
        code (`str`): such as `"f8"`.
    """

    code: str

    def set_state(self, state: Any) -> None:
        """Byte order; fields and subarrays are refused.

        Args:
            state (`tuple`): of the pickle.
        """
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in "<>|=" or any(state[2:5]):
            raise RefusedError(f"the file has a numpy dtype with the state {state!r}")
        self.code = f"{state[1]}{self.code.lstrip('<>|=')}"

    def numpy(self) -> np.dtype:
        """The dtype itself."""
        dtype = np.dtype(self.code)
        if dtype.kind not in NUMBER_KINDS:
            raise ValueError(f"numpy data of dtype {dtype}")
        return dtype


@dataclass(frozen=True)
class Name:
    """A global name of the file: calling it in the file calls `build`.

    Args:
        path (`str`): dotted name.
        build (`Callable`): makes data of the arguments.
    """

    path: str
    build: Callable[..., Any]


def read_pickle(path: str | os.PathLike) -> Any:
    """What a pickle of NVIDIA's StyleGAN code holds, as dictionaries, tensors, numbers and [`PersistentObject`]s.

    Args:
        path (`str`): the file.

    Raises:
        ValueError: the file is truncated, no pickle, or asks for anything that a network does not need.
    """
    with open(path, "rb") as file:
        try:
            return RestrictedUnpickler(file).load()
        except RefusedError as error:
            raise RefusedError(f"{os.fspath(path)}: {error}") from error
        except MemoryError as error:
            raise ValueError(f"{os.fspath(path)} asks for more memory than there is") from error
        except Exception as error:  # a broken file breaks the machine of `pickle` in many ways
            raise ValueError(f"{os.fspath(path)} is no pickle that can be read: {error!r}") from error


class RefusedError(ValueError):
    """The file asks for something that a network does not need."""


class RestrictedUnpickler(pickle._Unpickler):
    """The machine of `pickle` in Python, with every instruction that calls something replaced.

    The one in C cannot be restricted as far: it sets attributes of whatever lies on its stack.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Name:
        path = f"{module}.{name}"
        if module.startswith("dnnlib.tflib"):
            raise RefusedError(
                "the file holds TensorFlow networks: convert it with `legacy.py` of stylegan2-ada-pytorch first"
            )
        if path not in ALLOWED:
            raise RefusedError(f"the file refers to {path!r}, which no network needs: it was not read any further")
        return Name(path, ALLOWED[path])

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError("the file refers to objects outside of it")

    def get_extension(self, code: int) -> Any:
        raise RefusedError("the file uses the extension registry")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _built(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Dtype):
            target.set_state(state)
        elif not isinstance(target, dict) or state:
            raise RefusedError(f"the file sets attributes of {type(target).__name__}")

    def load_refused(self) -> None:
        raise RefusedError("the file makes instances of classes")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    for _opcode in (pickle.NEWOBJ_EX, pickle.INST, pickle.OBJ):
        dispatch[_opcode[0]] = load_refused
    del _opcode


def _built(name: Any, arguments: Any) -> Any:
    if not isinstance(name, Name) or not isinstance(arguments, tuple):
        raise RefusedError(f"the file calls {type(name).__name__}")
    try:
        return name.build(*arguments)
    except Exception as error:  # whatever the arguments of the file provoke
        raise RefusedError(f"{name.path!r} cannot be used as the file does: {error}") from error


def _persistent(meta: Any) -> PersistentObject:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise ValueError("not the description of an object")
    return PersistentObject(str(meta.get("class_name")), meta["state"])


def _mapping(items: Any = ()) -> OrderedDict:
    if not isinstance(items, list | tuple):
        raise TypeError(f"a dictionary of {type(items).__name__}")
    return OrderedDict(items)


def _set(items: Any = ()) -> set:
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | int) for item in items):
        raise TypeError("a set of something else than names")
    return set(items)


def _storage(data: Any) -> Any:
    if not isinstance(data, bytes):
        raise TypeError(f"a storage of {type(data).__name__}")
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise TypeError(f"a storage that is {type(storage).__name__}")
    return storage


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, torch.storage.TypedStorage) or len(size) != len(stride):
        raise TypeError("a tensor without a storage")
    numbers = [offset, *size, *stride]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a tensor of size {size!r}, stride {stride!r} and offset {offset!r}")
    count = int(np.prod(size, dtype=object)) if size else 1
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    untyped = storage._untyped_storage  # every public way to its size warns
    held = untyped.nbytes() // storage.dtype.itemsize
    if count > held or (count and last >= held):
        raise ValueError(f"a tensor of size {size!r} in a storage of {held}")
    return torch.empty(0, dtype=storage.dtype).set_(untyped, offset, tuple(size), tuple(stride)).clone()


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise TypeError(f"a parameter that is {type(data).__name__}")
    return data


def _dtype(code: Any, *_: Any) -> Dtype:
    if not isinstance(code, str):
        raise TypeError("a dtype without a code")
    dtype = Dtype(code)
    dtype.numpy()
    return dtype


def _scalar(dtype: Any, data: Any) -> bool | int | float:
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes):
        raise TypeError("a number without a dtype")
    (value,) = np.frombuffer(data, dtype.numpy())
    number: bool | int | float = value.item()
    return number


def _latin_bytes(text: Any, encoding: Any) -> bytes:
    """How protocols before 3 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise TypeError("bytes in another encoding than latin1")
    return text.encode("latin1")


ALLOWED: dict[str, Callable[..., Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "dnnlib.util.EasyDict": _mapping,
    "collections.OrderedDict": _mapping,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _latin_bytes,
}
