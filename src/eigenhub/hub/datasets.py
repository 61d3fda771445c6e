# SPDX-License-Identifier: Apache-2.0
"""The datasets that this package makes. `hub_cards/datasets/<slug>.yaml` describes each; a new one is a new file there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from eigenhub.files import read_yaml
from eigenhub.hub.resources import find
from eigenhub.hub.schema import SchemaError, build


if TYPE_CHECKING:
    from datasets import DatasetDict

FOLDER = "hub_cards/datasets"


@strict
@dataclass
class EmbeddedDataset:
    """
    One dataset of this package, as its file describes it.

    Args:
        slug (`str`): short name, that of the file.
        title (`str`): name for readers.
        summary (`str`): what a row is.
        loader (`str`): `"module:function"`; the function returns a `DatasetDict`.
        fields (`dict[str, str]`): what each column holds.
        tasks (`list[str]`): task categories of the Hub.
        source (`str`): where the underlying data come from, and on whose terms.
        use (`str`): what it is for.
        limits (`list[str]`): what it is not for, and what to know before using it.
        license (`str`): of the rows, as the Hub spells it.
        license_name (`str`, *optional*): of a licence that the Hub does not know.
        license_link (`str`, *optional*): where that licence stands.
        configs (`dict[str, dict[str, Any]]`, *optional*): settings of the loader by configuration of the dataset; by default
            one configuration without settings.
        recipe (`str`, *optional*): `"module:class"` of the one argument that takes the settings, if the loader has such.
        ids (`list[str]`, *optional*): names of this dataset in results files.
        language (`str`, *optional*): of text.
        packages (`list[str]`, *optional*): packages whose version the rows depend on; `python` is one.
    """

    slug: str
    title: str
    summary: str
    loader: str
    fields: dict[str, str]
    tasks: list[str]
    source: str
    use: str
    limits: list[str]
    license: str
    license_name: str | None = None
    license_link: str | None = None
    configs: dict[str, dict[str, Any]] = field(default_factory=lambda: {"default": {}})
    recipe: str | None = None
    ids: list[str] = field(default_factory=list)
    language: str | None = None
    packages: list[str] = field(default_factory=list)

    def load(self, config: str) -> "DatasetDict":
        """The rows of one configuration, made now.

        Args:
            config (`str`): its name.
        """
        if config not in self.configs:
            raise ValueError(f"`config` of {self.slug} must be one of {', '.join(self.configs)}; got {config!r}")
        settings = self.configs[config]
        loader = _load_object(self.loader)
        return loader(_load_object(self.recipe)(**settings)) if self.recipe else loader(**settings)

    def code(self, config: str) -> str:
        """Python that makes the rows of one configuration: what `load` does, for readers.

        Args:
            config (`str`): its name.
        """
        module, function = self.loader.split(":")
        settings = ", ".join(f"{name}={value!r}" for name, value in self.configs[config].items())
        names = [function]
        if self.recipe and settings:
            _, recipe = self.recipe.split(":")
            names, settings = sorted([recipe, function]), f"{recipe}({settings})"
        return f"from {module} import {', '.join(names)}\n\nrows = {function}({settings})"


def dataset_slugs() -> list[str]:
    """Names of all datasets of this package."""
    return sorted(path.stem for path in find(FOLDER).glob("*.yaml"))


def get_dataset(slug: str) -> EmbeddedDataset:
    """The dataset called `slug`.

    Args:
        slug (`str`): one of [`dataset_slugs`].

    Returns:
        `EmbeddedDataset`: its description.

    Example:

    ```python
    >>> from eigenhub.hub.datasets import get_dataset

    >>> get_dataset("facts").load("default")["test"].num_rows
    1120
    ```
    """
    if slug not in dataset_slugs():
        raise ValueError(f"`slug` must be one of {', '.join(dataset_slugs())}; got {slug!r}")
    path = find(f"{FOLDER}/{slug}.yaml")
    data = read_yaml(path)
    if not isinstance(data, Mapping):
        raise SchemaError(f"{path}: expected a mapping, got {data!r}")
    return build(EmbeddedDataset, {"slug": slug, **data}, str(path))


def _load_object(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
