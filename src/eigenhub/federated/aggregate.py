# SPDX-License-Identifier: Apache-2.0
"""The server's side of one round: many uploads in, one adapter out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eigenhub.federated.lora_keys import LoraKeys, as_matrix, pair_lora_keys
from eigenhub.federated.products import LowRankSum
from eigenhub.federated.recipes import recipe_of, refactors_in, trained_factors
from eigenhub.federated.refactor import refactored
from eigenhub.federated.updates import check_tensors, check_weight, uploaded_keys


@dataclass
class AggregateResult:
    """What a round has come to.

    Args:
        state (`dict[str, Tensor]`): the whole adapter for the next round, in the dtypes of the state before.
        base_update (`dict[str, tuple[Tensor, Tensor]]`): by layer, `left (d_out, k)` and `right (k, d_in)` whose
            product is to be added to the base weight (scaling included); empty for methods that leave it alone.
        singular_values (`dict[str, Tensor]`): of every refactored layer, descending, float64; empty without one.
        effective_rank (`dict[str, int]`): of every refactored layer.
        num_clients (`int`): uploads that entered.
    """

    state: dict[str, Tensor]
    base_update: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    singular_values: dict[str, Tensor] = field(default_factory=dict)
    effective_rank: dict[str, int] = field(default_factory=dict)
    num_clients: int = 0


class RoundAggregator:
    r"""Takes the uploads of a round one by one, so that memory does not grow with their number.

    Sums are kept in float64. Floating sums depend on the order of their terms: add clients in the order of their ids
    to get the same bits again.

    Args:
        method (`str`): `fedsvd`, `ffa`, `ffa_orth`, `fedavg`, `fedex`, `flexlora`, `flora` or `rolora`.
        global_state (`Mapping[str, Tensor]`): the whole adapter as it was broadcast.
        round (`int`, *optional*, defaults to 1): from 1; says which factor RoLoRA trains.
        scaling (`float` or `Mapping[str, float]`, *optional*, defaults to 1.0): `lora_alpha / r` of the layers (by
            name, or one for all), which enters what is added to base weights and nothing else.
        refactor (`bool`, *optional*): refactor the product at the end; by default as the method does in this round.
        with_extras (`bool`, *optional*, defaults to `False`): clients also send what is no LoRA factor (a trained head).
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): see [`refactor_lora`].
        generator (`torch.Generator`, *optional*): draws FLoRA's new A; by default seeded with `round`.
    """

    def __init__(
        self,
        method: str,
        global_state: Mapping[str, Tensor],
        round: int = 1,
        scaling: float | Mapping[str, float] = 1.0,
        refactor: bool | None = None,
        with_extras: bool = False,
        sign_rule: str = "largest_positive",
        generator: torch.Generator | None = None,
    ) -> None:
        recipe_of(method)
        self.method = method
        self.global_state = dict(global_state)
        self.pairs = pair_lora_keys(self.global_state)
        self.keys = uploaded_keys(self.global_state, trained_factors(method, round), with_extras)
        self.scaling = {name: scaling if isinstance(scaling, int | float) else scaling[name] for name in self.pairs}
        self.refactor = refactors_in(method, round) if refactor is None else refactor
        self.sign_rule = sign_rule
        self.generator = generator or torch.Generator().manual_seed(round)
        self.num_clients = 0
        self.total_weight = 0.0
        self._sums = {key: torch.zeros_like(self.global_state[key], dtype=torch.float64) for key in self.keys}
        self._products = {name: LowRankSum() for name in self.pairs} if not recipe_of(method).linear else {}

    def add(self, upload: Mapping[str, Tensor], weight: float) -> None:
        """Take one client's upload; nothing is changed if it raises.

        Args:
            upload (`Mapping[str, Tensor]`): exactly the tensors `self.keys`; B and A may be of a lower rank, and then
                stand for the first columns and rows, the others being as they were broadcast.
            weight (`float`): positive; weights need not sum to one.

        Raises:
            ValueError: for a weight or an upload that cannot enter a mean; see [`check_tensors`].
        """
        weight = check_weight(weight)
        check_tensors(upload, self.global_state, self.keys)
        whole = {key: self._completed(key, upload[key]) for key in self.keys}
        for key, tensor in whole.items():
            self._sums[key].add_(tensor.to(self._sums[key].device, torch.float64), alpha=weight)
        source = whole if self.method == "fedex" else upload
        for name, total in self._products.items():
            b, a = as_matrix(source[self.pairs[name].B]), as_matrix(source[self.pairs[name].A])
            total.add(b, a, weight)
        self.num_clients += 1
        self.total_weight += weight

    def finish(self) -> AggregateResult:
        """The state for the next round.

        Raises:
            ValueError: if no upload was added.
        """
        if self.num_clients == 0:
            raise ValueError("`updates` is empty: there is nothing to average")
        means = {
            key: (total / self.total_weight).to(self.global_state[key].dtype) for key, total in self._sums.items()
        }
        result = AggregateResult({**self.global_state, **means}, num_clients=self.num_clients)
        if self.method == "fedex":
            result.base_update = {name: self._missed(name) for name in self.pairs}
        elif self.method == "flexlora":
            for name in self.pairs:
                result.state.update(self._truncated(name))
        elif self.method == "flora":
            result.base_update = {name: self._scaled(name, self._products[name].compressed()) for name in self.pairs}
            for pair in self.pairs.values():
                result.state.update(self._anew(pair))
        if self.refactor:
            state, found = refactored(result.state, self.sign_rule)
            result.state.update(state)
            result.singular_values = {name: layer.singular_values for name, layer in found.items()}
            result.effective_rank = {name: int(layer.effective_rank) for name, layer in found.items()}
        return result

    def _completed(self, key: str, tensor: Tensor) -> Tensor:
        """An upload of lower rank with the columns or rows that its client does not have, as they were broadcast."""
        whole = self.global_state[key]
        if tensor.shape == whole.shape:
            return tensor
        whole = whole.to(tensor.device, torch.promote_types(whole.dtype, tensor.dtype), copy=True)
        whole[tuple(slice(0, size) for size in tensor.shape)] = tensor
        return whole

    def _scaled(self, name: str, factors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return factors[0] * (self.scaling[name] / self.total_weight), factors[1]

    def _missed(self, name: str) -> tuple[Tensor, Tensor]:
        """What the product of the means lacks of the mean of the products (FedEx-LoRA), scaled."""
        pair = self.pairs[name]
        mean_b, mean_a = (as_matrix(self._sums[key]) / self.total_weight for key in (pair.B, pair.A))
        residual = LowRankSum(*self._products[name].factors())
        residual.add(mean_b, mean_a, -self.total_weight)
        return self._scaled(name, residual.compressed())

    def _truncated(self, name: str) -> dict[str, Tensor]:
        """The best factors of the server's rank for the mean product (FlexLoRA)."""
        pair, (u, s, vh) = self.pairs[name], self._products[name].svd()
        b, a = self.global_state[pair.B], self.global_state[pair.A]
        rank = min(b.shape[1], len(s))
        # Of fewer triplets than the rank, the rest of B is zero and the rest of A what was broadcast.
        left, right = torch.zeros_like(as_matrix(b)), as_matrix(a).clone()
        left[:, :rank] = u[:, :rank] * (s[:rank] / self.total_weight)
        right[:rank] = vh[:rank]
        return {pair.B: left.reshape(b.shape), pair.A: right.reshape(a.shape)}

    def _anew(self, pair: LoraKeys) -> dict[str, Tensor]:
        """PEFT's initialisation: A uniform (Kaiming with a = sqrt 5), B zero."""
        a, b = self.global_state[pair.A], self.global_state[pair.B]
        bound = 1 / math.sqrt(as_matrix(a).shape[1])
        fresh = torch.empty(a.shape, dtype=torch.float32).uniform_(-bound, bound, generator=self.generator)
        return {pair.A: fresh.to(a.device, a.dtype), pair.B: torch.zeros_like(b)}


def aggregate(
    updates: Sequence[Mapping[str, Tensor]],
    weights: Iterable[float] | None,
    method: str,
    global_state: Mapping[str, Tensor],
    scaling: float | Mapping[str, float] = 1.0,
    round: int = 1,
    refactor: bool | None = None,
    with_extras: bool = False,
    generator: torch.Generator | None = None,
) -> AggregateResult:
    r"""Average the uploads of a round by one of the federated LoRA methods.

    With weights $w_k$ that sum to one after normalisation:

    | method | clients send | new state | added to the base weight |
    | --- | --- | --- | --- |
    | `fedsvd` | $B_k$ | refactored $(\bar B, A)$, see [`refactor_lora`] | |
    | `ffa` | $B_k$ | $(\bar B, A)$ | |
    | `ffa_orth` | $B_k$ | $(\bar B, A)$, refactored in the first round only | |
    | `fedavg` | $A_k, B_k$ | $(\bar B, \bar A)$ | |
    | `fedex` | $A_k, B_k$ | $(\bar B, \bar A)$ | $s\,(\sum_k w_k B_k A_k - \bar B \bar A)$ |
    | `flexlora` | $A_k, B_k$ | leading r triplets of $\sum_k w_k B_k A_k$ | |
    | `flora` | $A_k, B_k$ | $B = 0$, $A$ anew | $s \sum_k w_k B_k A_k$ |
    | `rolora` | $B_k$ or $A_k$ in turn | mean of the factor that was sent | |

    Args:
        updates (`Sequence[Mapping[str, Tensor]]`): the clients' tensors under the keys of a saved adapter.
        weights (`Iterable[float]`, *optional*): one per update, such as numbers of examples; `None` for equal ones.
        method (`str`): see above.
        global_state (`Mapping[str, Tensor]`): the whole adapter as it was broadcast.
        scaling (`float` or `Mapping[str, float]`, *optional*, defaults to 1.0): s, see [`RoundAggregator`].
        round (`int`, *optional*, defaults to 1): from 1.
        refactor (`bool`, *optional*): see [`RoundAggregator`].
        with_extras (`bool`, *optional*, defaults to `False`): see [`RoundAggregator`].
        generator (`torch.Generator`, *optional*): see [`RoundAggregator`].

    Returns:
        [`AggregateResult`].

    Raises:
        ValueError: no updates, weights that are not positive and finite or of another number, or an update with missing,
            surplus, misshapen or non-finite tensors; the message tells its position.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.federated import aggregate
    >>> state = {"q.lora_A.weight": torch.eye(2, 4), "q.lora_B.weight": torch.zeros(3, 2)}
    >>> uploads = [{"q.lora_B.weight": torch.full((3, 2), value)} for value in (1.0, 4.0)]
    >>> aggregate(uploads, [2, 1], "ffa", state).state["q.lora_B.weight"][0].tolist()
    [2.0, 2.0]
    ```
    """
    given = _weights_of(updates, weights)
    aggregator = RoundAggregator(method, global_state, round, scaling, refactor, with_extras, generator=generator)
    for position, (upload, weight) in enumerate(zip(updates, given, strict=True)):
        try:
            aggregator.add(upload, weight)
        except ValueError as error:
            raise ValueError(f"`updates[{position}]`: {error}") from None
    return aggregator.finish()


def aggregation_error(updates: Sequence[Mapping[str, Tensor]], weights: Iterable[float] | None = None) -> float:
    r"""How far the product of mean factors is from the mean of the products, relative to the latter, over all layers.

    $\lVert \bar B \bar A - \sum_k w_k B_k A_k \rVert_F / \lVert \sum_k w_k B_k A_k \rVert_F$: what FedAvg on both factors gets
    wrong in a round. It vanishes when all clients share A.

    Args:
        updates (`Sequence[Mapping[str, Tensor]]`): both factors of every layer from every client.
        weights (`Iterable[float]`, *optional*): one per update; `None` for equal ones.

    Raises:
        ValueError: as [`aggregate`].
    """
    given = _weights_of(updates, weights)
    if not updates:
        raise ValueError("`updates` is empty: there is nothing to average")
    aggregator = RoundAggregator("fedex", updates[0])
    for upload, weight in zip(updates, given, strict=True):
        aggregator.add(upload, weight)
    missed = sum(product_norm(*aggregator._missed(name)) ** 2 for name in aggregator.pairs)
    total = sum(
        product_norm(*aggregator._scaled(name, aggregator._products[name].factors())) ** 2 for name in aggregator.pairs
    )
    return math.sqrt(missed / total) if total else 0.0


def _weights_of(updates: Sequence[Mapping[str, Tensor]], weights: Iterable[float] | None) -> list[float]:
    given = [1.0] * len(updates) if weights is None else list(weights)
    if len(given) != len(updates):
        raise ValueError(f"`weights` must be as many as `updates`, got {len(given)} and {len(updates)}")
    return given


def product_norm(b: Tensor, a: Tensor) -> float:
    r"""$\lVert B A \rVert_F$ from the Gram matrices of the factors, $\sqrt{\mathrm{tr}(B^\top B\, A A^\top)}$.

    Args:
        b (`Tensor` of shape `(m, r)`): left factor.
        a (`Tensor` of shape `(r, n)`): right factor.
    """
    return float(((b.mT @ b) * (a @ a.mT)).sum().clamp(min=0).sqrt())
