# SPDX-License-Identifier: Apache-2.0
"""A BT2 head as a module of sentence-transformers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from eigenhub.models.bt2.index_identity import EncoderIdentity, as_identity
from eigenhub.models.bt2.text_base import Module, SentenceTransformer
from eigenhub.nn import BasisTransformationHead, FoldedHead


class BasisTransformation(Module):
    r"""
    Makes sentence embeddings whose first `old_dim` coordinates can be compared with the vectors of an old encoder.

    It goes behind the other modules of a `SentenceTransformer` and writes three embeddings: `sentence_embedding`, the
    whole unit vector for a new index; `compat_embedding`, its first `old_dim` coordinates; and `new_embedding`, the
    vector of the new encoder alone. So `model.encode(queries, truncate_dim=old_dim)` gives queries for an index of old
    vectors, and `model.encode(texts)` vectors for a new or a mixed one.

    Args:
        in_features (`int`): width of the sentence embedding that comes in.
        old_dim (`int`): width of old vectors.
        new_dim (`int`, *optional*, defaults to `in_features`): width of the new encoder's own vectors.
        added_dim (`int`, *optional*, defaults to 32): coordinates beyond those.
        scale (`float`, *optional*, defaults to 2.0): weight of the new encoder's space.
        added (`str`, *optional*, defaults to `"linear"`): `"linear"` folds into one matrix, see
            [`fold`][eigenhub.models.bt2.text_export.fold]; `"normalized"` is that of the paper.
        new_proj (`bool`, *optional*, defaults to `False`): a learned projection in front, for an encoder that is trained.
        old_identity (`EncoderIdentity | Mapping`, *optional*): the old encoder, its prompts included; kept with the
            model, so that no index of another one lets it in.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.bt2 import BasisTransformation
    >>> module = BasisTransformation(in_features=16, old_dim=12, added_dim=4)
    >>> features = module({"sentence_embedding": torch.randn(2, 16)})
    >>> features["sentence_embedding"].shape, features["compat_embedding"].shape
    (torch.Size([2, 20]), torch.Size([2, 12]))
    ```

    Zhou et al., BT2: Backward-compatible Training with Basis Transformation, 2211.03989; see
    [`BasisTransformationHead`][eigenhub.nn.BasisTransformationHead] for the formula.
    """

    config_keys = ["in_features", "old_dim", "new_dim", "added_dim", "scale", "added", "new_proj", "old_identity"]

    def __init__(
        self,
        in_features: int,
        old_dim: int,
        new_dim: int | None = None,
        added_dim: int = 32,
        scale: float = 2.0,
        added: str = "linear",
        new_proj: bool = False,
        old_identity: EncoderIdentity | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.old_dim, self.new_dim = in_features, old_dim, new_dim or in_features
        self.added_dim, self.scale, self.added, self.new_proj = added_dim, scale, added, new_proj
        self.old_encoder = None if old_identity is None else as_identity(old_identity, "old_identity")
        if self.old_encoder is not None and self.old_encoder.dim != old_dim:
            raise ValueError(f"`old_dim` must be that of `old_identity`, {self.old_encoder.dim}, got {old_dim}")
        self.head = BasisTransformationHead(in_features, self.new_dim, old_dim, added_dim, scale, added, new_proj)
        self._folded: tuple[object, dict[str, FoldedHead]] = (None, {})

    @classmethod
    def of_head(
        cls, head: BasisTransformationHead, old_identity: EncoderIdentity | Mapping[str, Any] | None = None
    ) -> "BasisTransformation":
        """
        The module of a fitted head.

        Args:
            head (`BasisTransformationHead`): from [`fit_head`][eigenhub.models.bt2.fit_head].
            old_identity (`EncoderIdentity | Mapping`, *optional*): the old encoder.
        """
        new_proj = head.new_projection is not None
        sizes = (head.in_features, head.old_dim, head.new_dim, head.added_dim)
        module = cls(*sizes, head.scale, head.added, new_proj, old_identity)
        module.head.load_state_dict(head.state_dict())
        return module

    @property
    def old_identity(self) -> dict[str, Any] | None:
        """The old encoder as JSON."""
        return None if self.old_encoder is None else self.old_encoder.to_dict()

    def forward(self, features: dict[str, Tensor | Any], **kwargs: Any) -> dict[str, Tensor | Any]:
        head = self.head if torch.is_grad_enabled() else self._fixed_head()
        output = head(features["sentence_embedding"])
        return features | {
            "sentence_embedding": output.embedding,
            "compat_embedding": output.compat,
            "new_embedding": output.new,
        }

    def _fixed_head(self) -> FoldedHead:
        """The head with its changes of basis as matrices, made anew when a weight has changed or moved."""
        tensors = [*self.head.parameters(), *self.head.buffers()]
        key = [(tensor.data_ptr(), tensor._version, tensor.device) for tensor in tensors]
        if self._folded[0] != key:
            # in a dict, or torch would take its tensors for further weights of this module
            with torch.inference_mode(False):
                self._folded = key, {"head": FoldedHead(self.head).eval()}
        return self._folded[1]["head"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BasisTransformation":
        """Moves follow `fn`, casts below float32 do not: sentence-transformers casts all modules to the trunk's dtype."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype.itemsize >= 4 else tensor.to(moved.device)

        return super()._apply(keep, recurse)

    def get_embedding_dimension(self) -> int:
        """Width of the sentence embedding."""
        return self.head.embedding_dim

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write configuration and weights into a folder."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(  # type: ignore[override]  # the options of the library, by their names
        cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> "BasisTransformation":
        """Read them from a folder or from the Hub; see `sentence_transformers.base.modules.Module.load`."""
        names = ("token", "cache_folder", "revision", "local_files_only")
        where: dict[str, Any] = {"subfolder": subfolder} | {name: kwargs[name] for name in names if name in kwargs}
        module = cls(**cls.load_config(model_name_or_path, **where))
        return cls.load_torch_weights(model_name_or_path, model=module, **where)


def basis_transformation(model: SentenceTransformer) -> BasisTransformation:
    """The module of a model that has one.

    Args:
        model (`SentenceTransformer`): with a [`BasisTransformation`] as its last module.
    """
    last = list(model.children())[-1]
    if not isinstance(last, BasisTransformation):
        raise ValueError(f"`model` must end with a BasisTransformation, got {type(last).__name__}")
    return last
