# SPDX-License-Identifier: Apache-2.0
"""Configurations of the BT2 models: any backbone under a compatible head, and the single embeddings it is compared with."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from eigenhub.nn.basis_head import check_dims
from eigenhub.nn.orthogonal_transform import check_transform


@strict
class Bt2TrunkConfig(PreTrainedConfig):
    r"""
    What every image embedder on a backbone has.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*, defaults to that of a ViT):
            Any configuration that `AutoModel` knows, `TimmWrapperConfig` included; a dictionary needs its `model_type`.
        hidden_size (`int`, *optional*):
            Length of the pooled feature; read from the backbone's configuration where that tells it.
        pooling (`str`, *optional*, defaults to `"pooler"`):
            `"pooler"`: the backbone's own `pooler_output`; `"mean"`: average over positions; `"cls"`: the first token.
        logit_scale (`float`, *optional*, defaults to 1.0):
            Factor on the logits, which are inner products of a unit vector with free class vectors.
        label_smoothing (`float`, *optional*, defaults to 0.0): of the classification loss.
        save_classifier (`bool`, *optional*, defaults to `True`): whether the class vectors are saved.
        initializer_range (`float`, *optional*, defaults to 0.02): deviation of fresh linear weights.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`): there are no embeddings to tie.
    """

    sub_configs = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference = ["loss_terms", "hidden_states", "attentions"]

    backbone_config: dict | PreTrainedConfig | None = None
    hidden_size: int | None = None
    pooling: Literal["pooler", "mean", "cls"] = "pooler"
    logit_scale: float | int = 1.0
    label_smoothing: float | int = 0.0
    save_classifier: bool = True
    initializer_range: float | int = 0.02
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.backbone_config is None:
            self.backbone_config = AutoConfig.for_model("vit")
        elif isinstance(self.backbone_config, dict):
            self.backbone_config = backbone_from_dict(self.backbone_config)
        if self.hidden_size is None:
            self.hidden_size = feature_size(self.backbone_config)
        super().__post_init__(**kwargs)

    @property
    def backbone(self) -> PreTrainedConfig:
        """The backbone's configuration as an object."""
        if not isinstance(self.backbone_config, PreTrainedConfig):
            raise ValueError(f"`backbone_config` must be a configuration, got {self.backbone_config!r}")
        return self.backbone_config

    @property
    def num_hidden_layers(self) -> int | None:
        """Number of layers of the backbone, if it counts them."""
        return getattr(self.backbone, "num_hidden_layers", None)

    @property
    def feature_dim(self) -> int:
        """`hidden_size`, known at the latest when the backbone is made."""
        if self.hidden_size is None:
            raise ValueError("`hidden_size` must be given for this backbone")
        return self.hidden_size

    def validate_trunk(self) -> None:
        """Raises a `ValueError` for numbers out of their range."""
        if self.hidden_size is not None and self.hidden_size < 1:
            raise ValueError(f"`hidden_size` must be at least 1, got {self.hidden_size}")
        if not self.logit_scale > 0:
            raise ValueError(f"`logit_scale` must be positive, got {self.logit_scale}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1), got {self.label_smoothing}")


@strict
class Bt2Config(Bt2TrunkConfig):
    r"""
    Configuration of a [`Bt2Model`]: a new embedding whose first `old_dim` coordinates meet an old model's vectors.

    Args:
        new_dim (`int`, *optional*, defaults to 128): $n$, length of the new teacher's vectors.
        old_dim (`int`, *optional*, defaults to 128): $m$, length of old vectors.
        added_dim (`int`, *optional*, defaults to 32): $k$ with $0 \le k \le m \le n + k$.
        scale (`float`, *optional*, defaults to 2.0): $C > 0$.
        added (`str`, *optional*, defaults to `"normalized"`): or `"linear"`, see [`BasisTransformationHead`].
        basis_rank (`int`, *optional*): low-rank changes of basis, see [`OrthogonalTransform`].
        new_teacher_weight (`float`, *optional*, defaults to 1.0): $\lambda_1$, weight of the distance to the new teacher.
        influence_weight (`float`, *optional*, defaults to 10.0): $\lambda_2$, weight of the influence loss.
        old_match_weight (`float`, *optional*, defaults to 5.0): $\lambda_3$, weight of the distance to old vectors.
        old_model (`dict`, *optional*): which model wrote the old vectors: `id`, `revision`, `dim`, `preprocessing`.

    Example:

    ```python
    >>> from transformers import ResNetConfig
    >>> from eigenhub.models.bt2 import Bt2Config
    >>> Bt2Config(backbone_config=ResNetConfig(), new_dim=128, old_dim=64).hidden_size
    2048
    ```
    """

    model_type = "bt2"

    new_dim: int = 128
    old_dim: int = 128
    added_dim: int = 32
    scale: float | int = 2.0
    added: str = "normalized"
    basis_rank: int | None = None
    new_teacher_weight: float | int = 1.0
    influence_weight: float | int = 10.0
    old_match_weight: float | int = 5.0
    old_model: dict | None = None

    @property
    def embedding_dim(self) -> int:
        """Length of the whole embedding, $n + k$."""
        return self.new_dim + self.added_dim

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of every term of the loss, by name."""
        return {
            "classification": 1.0,
            "new_teacher": self.new_teacher_weight,
            "influence": self.influence_weight,
            "old_match": self.old_match_weight,
        }

    def validate_architecture(self) -> None:
        """Raises a `ValueError` that names the inequality which the sizes break."""
        check_dims(self.new_dim, self.old_dim, self.added_dim, self.scale, self.added)
        check_transform(min(self.new_dim, self.old_dim), self.basis_rank, "cayley")
        check_weights(self.loss_weights)
        if self.old_model is not None and self.old_model.get("dim", self.old_dim) != self.old_dim:
            raise ValueError(f"`old_model` has dim {self.old_model['dim']}, but `old_dim` is {self.old_dim}")


@strict
class Bt2EmbedderConfig(Bt2TrunkConfig):
    r"""
    Configuration of a [`Bt2EmbedderForImageClassification`], one embedding alone or bound to an old model.

    | baseline | `old_dim` | weights | further |
    | --- | --- | --- | --- |
    | independent | `None` | | |
    | BCT | `embedding_dim` or less | `influence_weight=10` | |
    | OCA | less than `embedding_dim` | `classification_weight=5, influence_weight=10, prototype_weight=5` | `orthogonal=True` |

    Args:
        embedding_dim (`int`, *optional*, defaults to 128): length of the embedding.
        old_dim (`int`, *optional*): length of old vectors, to which the first coordinates are bound; by default to none.
        orthogonal (`bool`, *optional*, defaults to `False`): a learned rotation between embedding and class vectors.
        classification_weight (`float`, *optional*, defaults to 1.0): weight of the classification loss.
        influence_weight (`float`, *optional*, defaults to 10.0): weight of the influence loss.
        prototype_weight (`float`, *optional*, defaults to 0.0): weight of the distance to the class's old mean.
    """

    model_type = "bt2_embedder"

    embedding_dim: int = 128
    old_dim: int | None = None
    orthogonal: bool = False
    classification_weight: float | int = 1.0
    influence_weight: float | int = 10.0
    prototype_weight: float | int = 0.0

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of every term of the loss, by name."""
        return {
            "classification": self.classification_weight,
            "influence": self.influence_weight,
            "prototype_match": self.prototype_weight,
        }

    def validate_architecture(self) -> None:
        """Raises a `ValueError` for sizes and weights that cannot be."""
        if self.embedding_dim < 1:
            raise ValueError(f"`embedding_dim` must be at least 1, got {self.embedding_dim}")
        if self.old_dim is not None and not 1 <= self.old_dim <= self.embedding_dim:
            raise ValueError(
                f"`old_dim` must be between 1 and embedding_dim = {self.embedding_dim}, got {self.old_dim}"
            )
        check_weights(self.loss_weights)


def check_weights(weights: dict[str, float]) -> None:
    """Raises a `ValueError` for a loss weight that is negative or not a number.

    Args:
        weights (`dict[str, float]`): by name of the term.
    """
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"the weight of `{name}` must be at least 0, got {weight}")


def backbone_from_dict(entries: dict) -> PreTrainedConfig:
    """The configuration that a dictionary with a `model_type` describes.

    Args:
        entries (`dict`): as written by `to_dict`.
    """
    if "model_type" not in entries:
        raise ValueError(f"`backbone_config` must name its model_type, got the keys {sorted(entries)}")
    return AutoConfig.for_model(**entries)


def feature_size(backbone: PreTrainedConfig) -> int | None:
    """Length of a backbone's pooled feature as its configuration tells it, if it does.

    Args:
        backbone (`PreTrainedConfig`): its configuration.
    """
    size = getattr(backbone, "hidden_size", None)
    if isinstance(size, int):
        return size
    sizes = getattr(backbone, "hidden_sizes", None)
    return sizes[-1] if sizes else None
