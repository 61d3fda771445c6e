# SPDX-License-Identifier: Apache-2.0
"""Which encoder wrote a vector: the part of an index that makes a wrong model an error instead of bad results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from eigenhub.files import check_entries, field_kinds


class IdentityError(ValueError):
    """A query or vector comes from another encoder than the index holds."""


@dataclass(frozen=True)
class EncoderIdentity:
    """
    What has to be equal for two vectors to be comparable.

    Args:
        model_id (`str`): Hub id or name of the encoder.
        dim (`int`): width of its vectors.
        revision (`str`, *optional*): commit on the Hub, or a hash of the weights.
        prompts (`Mapping[str, str]`, *optional*, defaults to `{}`): prompts by name, such as `query` and `document`.
        normalized (`bool`, *optional*, defaults to `True`): whether the vectors have unit norm.
        compatible_with (`EncoderIdentity`, *optional*): the old encoder that a backward-compatible one was fitted to;
            an index of any other encoder refuses it.

    Example:

    ```python
    >>> from eigenhub.models.bt2 import EncoderIdentity
    >>> EncoderIdentity("BAAI/bge-small-en-v1.5", 384, revision="5c38ec7").name
    'BAAI/bge-small-en-v1.5@5c38ec7'
    ```
    """

    model_id: str
    dim: int
    revision: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    normalized: bool = True
    compatible_with: "EncoderIdentity | None" = None

    def __post_init__(self) -> None:
        if not self.model_id:
            raise ValueError("`model_id` must name the encoder, got an empty string")
        if not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"`dim` must be a positive integer, got {self.dim!r}")
        # An absent prompt and an empty one give the same vectors.
        object.__setattr__(self, "prompts", {name: text for name, text in dict(self.prompts).items() if text})

    @property
    def name(self) -> str:
        """Model and revision in one word."""
        return f"{self.model_id}@{self.revision}" if self.revision else self.model_id

    def differences(self, other: "EncoderIdentity") -> list[str]:
        """What differs, as `field: ours, theirs`; what the encoder was fitted to does not change its vectors."""
        names = [item.name for item in fields(self) if item.name != "compatible_with"]
        return [
            f"{name}: {getattr(self, name)!r}, {getattr(other, name)!r}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def as_identity(given: EncoderIdentity | Mapping[str, Any], argument: str = "identity") -> EncoderIdentity:
    """
    An identity from itself or from its JSON form.

    Args:
        given (`EncoderIdentity | Mapping[str, Any]`): the identity.
        argument (`str`, *optional*, defaults to `"identity"`): name for the error message.
    """
    if isinstance(given, EncoderIdentity):
        return given
    known = {item.name for item in fields(EncoderIdentity)}
    if not isinstance(given, Mapping) or not {"model_id", "dim"} <= set(given) <= known:
        raise ValueError(
            f"`{argument}` must be an EncoderIdentity or a mapping with model_id, dim and optionally "
            f"{', '.join(sorted(known - {'model_id', 'dim'}))}; got {given!r}"
        )
    kinds = field_kinds(EncoderIdentity)
    check_entries(given, {name: kinds[name] for name in given if name != "dim"})  # the class checks it
    fitted = given.get("compatible_with")
    return EncoderIdentity(**{**given, "compatible_with": None if fitted is None else as_identity(fitted)})


def check_identity(given: EncoderIdentity, allowed: EncoderIdentity, what: str) -> None:
    """
    Raise unless two identities give comparable vectors.

    Args:
        given (`EncoderIdentity`): who wrote the vectors at hand.
        allowed (`EncoderIdentity`): who wrote those of the index.
        what (`str`): what is at hand, as the subject of a sentence.
    """
    if differences := given.differences(allowed):
        raise IdentityError(
            f"{what} come from {given.name}, the index holds {allowed.name} ({'; '.join(differences)})"
        )


def check_upgrade(new: EncoderIdentity, old: EncoderIdentity) -> None:
    """
    Raise unless vectors of `new` may enter an index of `old`.

    Args:
        new (`EncoderIdentity`): a backward-compatible encoder; its first `old.dim` coordinates compare with old vectors.
        old (`EncoderIdentity`): the newest encoder of the index.
    """
    if new.dim < old.dim:
        raise IdentityError(
            f"`identity`: {new.name} has {new.dim} dimensions, fewer than the {old.dim} of {old.name}; the vectors of a "
            f"backward-compatible encoder begin with a part that compares with old ones"
        )
    if not new.differences(old):
        raise IdentityError(f"`identity`: the index already holds {old.name}")
    if new.compatible_with is not None and (differences := new.compatible_with.differences(old)):
        raise IdentityError(
            f"`identity`: {new.name} was fitted to {new.compatible_with.name}, the index holds {old.name} "
            f"({'; '.join(differences)})"
        )
