# SPDX-License-Identifier: Apache-2.0
"""Matrices that are split over processes (DTensor): which split an algorithm works on, and its few collectives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> TypeGuard[Any]:
    """Whether `tensor` is a DTensor; asks for its attributes, so that plain training never imports the module."""
    return hasattr(tensor, "device_mesh") and hasattr(tensor, "to_local")


def local_part(tensor: Tensor) -> Tensor:
    """The part of `tensor` on this process: writing to it writes to the tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def aligned_part(tensor: Tensor, reference: Tensor) -> Tensor:
    """The part of `tensor` that goes with this process' part of `reference`, moved there if it lies otherwise."""
    if is_sharded(reference) and is_sharded(tensor) and tensor.placements != reference.placements:
        tensor = tensor.redistribute(placements=reference.placements)
    return local_part(tensor)


def scalar_dtype(device: torch.device) -> torch.dtype:
    """Dtype for single numbers that are squared, summed and subtracted: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def zeros_beside(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros of the shape and split of `parameter`, in another dtype."""
    return torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)


@dataclass(frozen=True)
class Sharding:
    """How one matrix parameter is split while its algorithm runs.

    Every row that is transformed has to be whole, so the matrix may be split along its rows or, for a stack of matrices,
    along the stack; anything else is redistributed first.

    Args:
        mesh (`DeviceMesh`): the processes.
        placements (`tuple[Placement, ...]`): the split the algorithm works on, per mesh dimension.
        parts (`tuple[str, ...]`): what each mesh dimension splits: `"rows"`, `"stack"` or `"nothing"`.
        moves (`bool`): whether this differs from the split of the parameter.
    """

    mesh: Any
    placements: tuple[Any, ...]
    parts: tuple[str, ...]
    moves: bool

    @classmethod
    def of(cls, parameter: Tensor, row_axis: int) -> "Sharding | None":
        """The split for a parameter whose rows run along `row_axis`; `None` for a plain tensor."""
        if not is_sharded(parameter):
            return None
        from torch.distributed.tensor import Replicate, Shard

        placements: list[Any] = []
        parts = []
        for placement in parameter.placements:
            plain = type(placement) is Shard  # a strided shard of 2-D parallelism is not a contiguous block of rows
            if placement.is_replicate():
                placements.append(Replicate())
                parts.append("nothing")
            elif plain and parameter.ndim == 3 and placement.dim == 0:
                placements.append(placement)
                parts.append("stack")
            else:
                placements.append(Shard(row_axis))
                parts.append("rows")
        moves = tuple(placements) != tuple(parameter.placements)
        return cls(parameter.device_mesh, tuple(placements), tuple(parts), moves)

    @property
    def key(self) -> tuple[Any, ...]:
        """Matrices with equal keys share their collectives."""
        return (self.mesh, self.parts)

    @property
    def shares(self) -> int:
        """Over how many processes the rows or the stack are divided."""
        sizes = [self.mesh.size(i) for i, part in enumerate(self.parts) if part != "nothing"]
        return int(torch.Size(sizes).numel())

    def axis_of(self, part: str, stack_axis: int, row_axis: int) -> Any:
        """Placement of another tensor of the same matrices whose stack and rows run along the given axes."""
        from torch.distributed.tensor import Replicate, Shard

        return {"rows": Shard(row_axis), "stack": Shard(stack_axis), "nothing": Replicate()}[part]

    def local(self, tensor: Any) -> Tensor:
        """This process' part under the working split."""
        if tuple(tensor.placements) != self.placements:
            tensor = tensor.redistribute(placements=self.placements)
        return tensor.to_local()

    def wrap(self, local: Tensor, shape: Sequence[int], stack_axis: int, row_axis: int | None) -> Tensor:
        """State tensor of global `shape` from its local part; without a `row_axis` it is the same for all rows."""
        from torch.distributed.tensor import DTensor, Replicate

        placements = [
            Replicate() if part == "rows" and row_axis is None else self.axis_of(part, stack_axis, row_axis or 0)
            for part in self.parts
        ]
        size = torch.Size(shape)
        stride = torch.empty(size, device="meta").stride()
        return DTensor.from_local(local, self.mesh, placements, run_check=False, shape=size, stride=stride)

    def give_back(self, update: Tensor, parameter: Any) -> Tensor:
        """This process' part, under the split of `parameter`, of an update computed under the working split."""
        from torch.distributed.tensor import DTensor

        whole = DTensor.from_local(
            update, self.mesh, self.placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
        )
        return whole.redistribute(placements=parameter.placements).to_local()

    def sum_(self, partial: Tensor, over: Sequence[str] = ("rows",)) -> Tensor:
        """Add up, in place, what the processes that share rows (or a stack) have each computed from theirs."""
        from torch.distributed import all_reduce

        for dimension, part in enumerate(self.parts):
            if part in over:
                all_reduce(partial, group=self.mesh.get_group(dimension))
        return partial

    def agree_(self, decision: Tensor) -> Tensor:
        """Take, in place, the decision of the first process, so that a near-tie cannot split the processes."""
        from torch.distributed import broadcast

        for dimension, part in enumerate(self.parts):
            if part != "stack":
                broadcast(decision, group_src=0, group=self.mesh.get_group(dimension))
        return decision


def first_flattened(parameters: Sequence[Tensor]) -> Tensor | None:
    """A parameter that FSDP1 has flattened, whatever its wrapper exposes; `None` if there is none."""
    return next((p for p in parameters if getattr(p, "_fsdp_flattened", False)), None)


def gathered(local: Tensor, parameter: Any) -> Tensor:
    """The whole of a tensor that is split like `parameter`, on every process."""
    from torch.distributed.tensor import DTensor

    split = DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return split.full_tensor()


def scattered(whole: Tensor, parameter: Any) -> Tensor:
    """This process' part, under the split of `parameter`, of a tensor that every process has."""
    from torch.distributed.tensor import DTensor, Replicate

    mesh = parameter.device_mesh
    copies = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return copies.redistribute(placements=parameter.placements).to_local()


def reduce_scalars(values: Tensor, owners: Sequence[Tensor], whole: bool = True, largest: bool = False) -> Tensor:
    """Complete one number per tensor over the processes among which its parameter is split, in one collective per mesh.

    Args:
        values (`Tensor` of shape `(k,)`): from the entries on this process.
        owners (`Sequence[Tensor]`): the parameter of each number.
        whole (`bool`, *optional*, defaults to `True`): whether the numbers are over whole parameters; `False`: each is over
            one matrix of a stack, which a split of the stack does not divide.
        largest (`bool`, *optional*, defaults to `False`): take the largest instead of the sum.
    """
    if not any(map(is_sharded, owners)):
        return values
    from torch.distributed import ReduceOp, all_reduce

    values = values.clone()
    groups: dict[Any, list[int]] = {}
    for i, owner in enumerate(owners):
        if not is_sharded(owner):
            continue
        for dimension, placement in enumerate(owner.placements):
            stack_only = not whole and owner.ndim == 3 and getattr(placement, "dim", None) == 0
            if not placement.is_replicate() and not stack_only:
                groups.setdefault((owner.device_mesh, dimension), []).append(i)
    for (mesh, dimension), members in groups.items():
        part = values[members]
        all_reduce(part, op=ReduceOp.MAX if largest else ReduceOp.SUM, group=mesh.get_group(dimension))
        values[members] = part
    return values
