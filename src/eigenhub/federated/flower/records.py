# SPDX-License-Identifier: Apache-2.0
"""Tensors in Flower's records: what travels between server and clients, and back into an adapter."""

from collections.abc import Mapping

import torch
from flwr.app import ArrayRecord
from peft import PeftModel
from torch import Tensor

from eigenhub.federated.lora_model import read_adapter
from eigenhub.federated.products import LowRankSum


def peft_to_arrays(adapter: PeftModel | Mapping[str, Tensor], adapter_name: str = "default") -> ArrayRecord:
    """An adapter as a Flower record.

    Arrays are numpy's, which knows no bfloat16: such tensors travel as float32, which holds them exactly. Take
    [`wire_dtypes`] along to restore them on arrival.

    Args:
        adapter (`PeftModel` or `Mapping[str, Tensor]`): a model, or the state dict of a saved adapter.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter of a model.
    """
    state = read_adapter(adapter, adapter_name) if isinstance(adapter, PeftModel) else adapter
    return ArrayRecord({key: _for_numpy(tensor) for key, tensor in state.items()})


def arrays_to_peft(record: ArrayRecord, dtypes: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """The state dict of an adapter from a Flower record.

    Args:
        record (`ArrayRecord`): from [`peft_to_arrays`].
        dtypes (`Mapping[str, str]`, *optional*): from [`wire_dtypes`]; without it tensors have the dtype they travelled in.

    Raises:
        ValueError: for an array that cannot be read, or a dtype that torch does not have.
    """
    return {key: _as_tensor(key, array).to(_dtype((dtypes or {}).get(key))) for key, array in record.items()}


def wire_dtypes(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The dtypes that do not survive the journey, by key.

    Args:
        state (`Mapping[str, Tensor]`): what is sent.
    """
    return {key: "bfloat16" for key, tensor in state.items() if tensor.dtype == torch.bfloat16}


def sums_to_arrays(sums: Mapping[str, LowRankSum]) -> ArrayRecord:
    """What was added to the base weights so far, as a Flower record of two factors per layer.

    Args:
        sums (`Mapping[str, LowRankSum]`): by layer.
    """
    return peft_to_arrays(
        {
            f"{side}.{name}": f.float()
            for name, s in sums.items()
            for side, f in zip(("left", "right"), s.factors(), strict=True)
        }
    )


def arrays_to_sums(record: ArrayRecord) -> dict[str, LowRankSum]:
    """The sums of [`sums_to_arrays`].

    Args:
        record (`ArrayRecord`): left and right factors.
    """
    parts = arrays_to_peft(record)
    names = [key.removeprefix("left.") for key in parts if key.startswith("left.")]
    return {name: LowRankSum(parts[f"left.{name}"], parts[f"right.{name}"]) for name in names}


def _for_numpy(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _as_tensor(key: str, array: object) -> Tensor:
    try:
        return torch.from_numpy(array.numpy().copy())  # type: ignore[attr-defined]  # flwr's Array
    except Exception as error:  # bytes from another machine can fail in any way
        raise ValueError(f"`{key}` cannot be read as an array ({error})") from None


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    if not isinstance(dtype := getattr(torch, name, None), torch.dtype):
        raise ValueError(f"dtype {name!r} is none of torch's")
    return dtype
