# SPDX-License-Identifier: Apache-2.0
"""From tokens or values to the features of the layers."""

import torch
from torch import Tensor, nn


class TokenEncoder(nn.Module):
    """Embedding of tokens.

    Args:
        vocab_size (`int`): number of tokens.
        hidden_size (`int`): number of features.
        bias (`bool`): whether to add a bias: a dense layer on one-hot vectors, which is what S5 has here, is an embedding
            and a bias.
    """

    input_name = "input_ids"

    def __init__(self, vocab_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, hidden_size)
        self.token_bias = nn.Parameter(torch.empty(hidden_size)) if bias else None

    def forward(self, input_ids: Tensor) -> Tensor:  # [batch, length] -> [batch, length, features]
        if input_ids.ndim != 2:
            raise ValueError(f"`input_ids` must have shape (batch, length), got {tuple(input_ids.shape)}")
        return self.add_bias(self.embed_tokens(input_ids))

    def add_bias(self, embedded: Tensor) -> Tensor:
        """Embeddings as the first layer gets them, whoever looked them up."""
        return embedded if self.token_bias is None else embedded + self.token_bias


class ValueEncoder(nn.Module):
    """Linear map of real values.

    Args:
        input_size (`int`): number of values at each step.
        hidden_size (`int`): number of features.
    """

    input_name = "input_values"

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embed_values = nn.Linear(input_size, hidden_size)

    def forward(self, input_values: Tensor) -> Tensor:  # [batch, length, values] -> [batch, length, features]
        size = self.embed_values.in_features
        if input_values.ndim == 2 and size == 1:
            input_values = input_values[..., None]
        if input_values.ndim != 3 or input_values.shape[-1] != size:
            wanted = "(batch, length) or (batch, length, 1)" if size == 1 else f"(batch, length, {size})"
            raise ValueError(f"`input_values` must have shape {wanted}, got {tuple(input_values.shape)}")
        return self.embed_values(input_values.to(self.embed_values.weight.dtype))

    def add_bias(self, embedded: Tensor) -> Tensor:
        """Nothing to add: the linear map has its bias."""
        return embedded


def encode(
    encoder: TokenEncoder | ValueEncoder,
    input_ids: Tensor | None,
    input_values: Tensor | None,
    inputs_embeds: Tensor | None,
) -> Tensor:
    """Run the encoder on the one input that it reads, or pass embeddings on.

    Args:
        encoder (`TokenEncoder` or `ValueEncoder`): encoder.
        input_ids (`Tensor` of shape `(batch, length)`, *optional*): tokens.
        input_values (`Tensor` of shape `(batch, length, values)`, *optional*): values.
        inputs_embeds (`Tensor` of shape `(batch, length, features)`, *optional*): output of an encoder.
    """
    inputs = {"input_ids": input_ids, "input_values": input_values, "inputs_embeds": inputs_embeds}
    given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
    if len(given) != 1 or not given.keys() <= {encoder.input_name, "inputs_embeds"}:
        got = " and ".join(f"`{name}`" for name in given) or "neither"
        raise ValueError(f"this model takes either `{encoder.input_name}` or `inputs_embeds`, got {got}")
    ((name, tensor),) = given.items()
    if name != "inputs_embeds":
        return encoder(tensor)
    if tensor.ndim != 3:
        raise ValueError(f"`inputs_embeds` must have shape (batch, length, hidden_size), got {tuple(tensor.shape)}")
    return encoder.add_bias(tensor)
