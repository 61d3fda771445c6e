# SPDX-License-Identifier: Apache-2.0
"""One loss per example, which clipping needs: a mean over the batch hides who contributed what.

Tokens are averaged within their own sequence. transformers averages over all tokens of the batch, where an example's weight
depends on the others; under differential privacy every example must stand alone.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers.models.auto import modeling_auto


#: `(outputs, labels) -> losses [batch]`, of a model's outputs and the batch's labels.
ComputeLoss = Callable[[Any, Any], Tensor]

IGNORED = -100
_CLASSIFIERS = "SEQUENCE_CLASSIFICATION IMAGE_CLASSIFICATION AUDIO_CLASSIFICATION VIDEO_CLASSIFICATION".split()
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def per_example_loss(model: nn.Module) -> ComputeLoss:
    """The loss of a transformers model, one value per example.

    Args:
        model (`nn.Module`): a model with a head, or a PEFT model around it: classification of sequences, images, audio or
            videos (by the configuration's `problem_type`; regression if there is one label), of tokens, causal or masked
            language modelling.

    Returns:
        `Callable[[Any, Tensor], Tensor]`: of outputs with `logits` and of labels, float32 losses of shape `[batch]`.

    Raises:
        ValueError: for a model of another kind; pass `compute_loss(outputs, labels) -> [batch]` for it.

    Example:

    ```python
    >>> import torch
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> from eigenhub.federated.per_example_loss import per_example_loss
    >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=11)
    >>> model = BertForSequenceClassification(BertConfig(**sizes, num_labels=3))
    >>> outputs = model(input_ids=torch.zeros(4, 5, dtype=torch.long))
    >>> per_example_loss(model)(outputs, torch.tensor([0, 1, 2, 0])).shape
    torch.Size([4])
    ```
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    names = {kind.__name__ for kind in type(base).__mro__}
    if any(names & _class_names(task) for task in _CLASSIFIERS) or _ends(names, "SequenceClassification"):
        return _classification_of(base)
    if names & _class_names("TOKEN_CLASSIFICATION") or _ends(names, "TokenClassification"):
        return token_loss
    if names & _class_names("MASKED_LM") or _ends(names, "MaskedLM"):
        return token_loss
    if names & _class_names("CAUSAL_LM") or _ends(names, "CausalLM"):
        return causal_lm_loss
    raise ValueError(
        f"`compute_loss` must be given for {type(base).__name__}: one loss per example is known for classification of "
        "sequences, images, audio, videos and tokens, and for causal and masked language models"
    )


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str) -> Tensor:
    """Cross-entropy, or squared error or binary cross-entropy averaged over the labels of an example.

    Args:
        logits (`Tensor` of shape `[batch, labels]`): outputs.
        labels (`Tensor` of shape `[batch]` or `[batch, labels]`): classes, or numbers for each label.
        problem_type (`str`): `"single_label_classification"`, `"regression"` or `"multi_label_classification"`.

    Returns:
        `Tensor` of shape `[batch]`, float32.
    """
    logits = logits.float()
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, labels.view(-1), reduction="none")
    if problem_type == "regression":
        return (logits - labels.float().view_as(logits)).square().flatten(1).mean(1)
    if problem_type == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(1)
    raise ValueError(f"`problem_type` must be one of {', '.join(PROBLEM_TYPES)}; got {problem_type!r}")


def token_loss(outputs: Any, labels: Tensor) -> Tensor:
    """Cross-entropy averaged over the tokens of each sequence that carry a label.

    Args:
        outputs (`Any`): with `logits` of shape `[batch, length, classes]`.
        labels (`Tensor` of shape `[batch, length]`): classes, -100 where there is none.

    Returns:
        `Tensor` of shape `[batch]`, float32; zero for a sequence without labels.
    """
    return _mean_over_own_tokens(outputs.logits, labels)


def causal_lm_loss(outputs: Any, labels: Tensor) -> Tensor:
    """Cross-entropy of the next token, averaged over each sequence's own tokens.

    Args:
        outputs (`Any`): with `logits` of shape `[batch, length, vocabulary]`.
        labels (`Tensor` of shape `[batch, length]`): tokens, not shifted, -100 where there is nothing to predict.

    Returns:
        `Tensor` of shape `[batch]`, float32; zero for a sequence with nothing to predict.
    """
    logits = outputs.logits[:, -labels.shape[1] :]  # prompt tuning puts virtual tokens in front
    return _mean_over_own_tokens(logits[:, :-1], labels[:, 1:])


def check_losses(losses: Tensor, count: int) -> Tensor:
    """`losses`, if there is one per example.

    Args:
        losses (`Tensor`): what `compute_loss` gave.
        count (`int`): examples in the batch.

    Raises:
        ValueError: for another shape.
    """
    if not isinstance(losses, Tensor) or losses.shape != (count,):
        got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(f"`compute_loss` must return one loss per example, shape ({count},); got {got}")
    return losses


def _classification_of(model: nn.Module) -> ComputeLoss:
    """The loss of a classifier; like transformers, it goes by the labels where no problem type is configured."""
    config: Any = model.config
    given: str | None = getattr(config, "problem_type", None)
    if given not in (None, *PROBLEM_TYPES):
        raise ValueError(f"`problem_type` must be one of {', '.join(PROBLEM_TYPES)}; got {given!r}")

    def compute_loss(outputs: Any, labels: Tensor) -> Tensor:
        if given is not None:
            problem = given
        elif config.num_labels == 1:
            problem = "regression"
        else:
            problem = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        return classification_loss(outputs.logits, labels, problem)

    return compute_loss


def _mean_over_own_tokens(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits `[batch, length, classes]` and labels `[batch, length]`, losses `[batch]`."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return losses.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)


def _class_names(task: str) -> set[str]:
    """Names of transformers' classes for a task, such as `GPT2LMHeadModel` for `CAUSAL_LM`."""
    names = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").values()
    return {name for entry in names for name in ([entry] if isinstance(entry, str) else entry)}


def _ends(names: set[str], head: str) -> bool:
    """Whether a class follows transformers' naming without being one of its own."""
    return any(name.endswith(f"For{head}") for name in names)
