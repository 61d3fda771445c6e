# SPDX-License-Identifier: Apache-2.0
"""What the server broadcasts: the whole adapter, or B and an r x r matrix per layer on a basis that is sent once.

The row space of A never leaves that of the first A (see the docs page), so A = R Q with a fixed Q of orthonormal rows.
"""

from collections.abc import Mapping

from torch import Tensor

from eigenhub.federated.lora_keys import as_matrix, pair_lora_keys
from eigenhub.linalg.orthogonal import orthonormalize


ROTATION_SUFFIX = ".rotation"


def basis_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Orthonormal rows that span those of A, by the key of A, in its dtype: what is sent once.

    Args:
        state (`Mapping[str, Tensor]`): the adapter before the first round.
    """
    keys = [pair.A for pair in pair_lora_keys(state).values()]
    return {
        key: orthonormalize(as_matrix(state[key]).double().mT).mT.contiguous().to(state[key].dtype) for key in keys
    }


def rotations_of(state: Mapping[str, Tensor], basis: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The r x r coordinates of every A on the basis, in float64.

    Args:
        state (`Mapping[str, Tensor]`): the whole adapter.
        basis (`Mapping[str, Tensor]`): from [`basis_of`].
    """
    return {key + ROTATION_SUFFIX: as_matrix(state[key]).double() @ rows.double().mT for key, rows in basis.items()}


def rebuilt(
    payload: Mapping[str, Tensor], basis: Mapping[str, Tensor], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The whole adapter from what was broadcast.

    Args:
        payload (`Mapping[str, Tensor]`): from [`FederatedServer.broadcast`].
        basis (`Mapping[str, Tensor]`): the one its rotations refer to; empty for a full downlink.
        like (`Mapping[str, Tensor]`): tells order, shapes and dtypes.
    """
    state = {}
    for key, tensor in like.items():
        if key in basis:
            a = payload[key + ROTATION_SUFFIX] @ basis[key].double()
            state[key] = a.to(tensor.dtype).reshape(tensor.shape)
        else:
            state[key] = payload[key]
    return state


def num_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors of a payload.

    Args:
        state (`Mapping[str, Tensor]`): what is sent.
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
