# SPDX-License-Identifier: Apache-2.0
"""A saved model together with its code, for people who do not have this package: `trust_remote_code=True` is enough."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from eigenhub.files import read_json, replace_folder, write_text
from eigenhub.hub.module_bundle import bundle_sources
from eigenhub.models import register_all


CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class ModelExport:
    """What an export wrote.

    Args:
        path (`Path`): the folder.
        architecture (`str`): class of the saved model.
        num_code_files (`int`): number of Python files beside the weights.
        auto_map (`dict[str, str]`): class in those files by Auto class.
    """

    path: Path
    architecture: str
    num_code_files: int
    auto_map: dict[str, str]


def export_model(model: PreTrainedModel, path: str | os.PathLike, **kwargs: Any) -> ModelExport:
    """Save a model with its code, so that `from_pretrained(path, trust_remote_code=True)` works without this package.

    Where the package is installed and imported, its own classes are used and the code is left alone.

    Args:
        model (`PreTrainedModel`): a model of this package.
        path (`str`): folder to write.
        kwargs (`Any`): passed to `save_pretrained`.

    Returns:
        [`ModelExport`].

    Example:

    ```python
    >>> import tempfile
    >>> from eigenhub.hub.export_model import export_model
    >>> from eigenhub.models.s5_ptd import S5Config, S5Model
    >>> model = S5Model(S5Config(hidden_size=8, state_size=8, num_blocks=1, num_hidden_layers=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_model(model, folder).auto_map["AutoModel"]
    'modeling_s5_ptd.S5Model'
    ```
    """
    check_own(type(model), type(model.config))
    model.save_pretrained(path, **kwargs)
    return add_code(Path(path), type(model), type(model.config))


def export_checkpoint(checkpoint: str, path: str | os.PathLike) -> ModelExport:
    """Copy a saved model and add its code: what `eigenhub export` calls.

    Args:
        checkpoint (`str`): folder of `save_pretrained`.
        path (`str`): folder to write; it must not exist or be empty.

    Returns:
        [`ModelExport`].

    Raises:
        ValueError: no model of this package, or the folder is not empty.
    """
    source, target = Path(checkpoint), Path(path)
    register_all()
    config = AutoConfig.from_pretrained(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"`path` must be a folder that does not exist yet or is empty, got {str(target)!r}")
    model_class = saved_class(config)
    check_own(model_class, type(config))
    workplace = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(source, workplace)
        written = add_code(workplace, model_class, type(config))
        replace_folder(workplace, target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return replace(written, path=target)


def saved_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Class of the model that a configuration was saved with.

    Args:
        config (`PreTrainedConfig`): configuration of a saved model.
    """
    package = import_module(type(config).__module__.rpartition(".")[0])
    names = config.architectures or []
    found = getattr(package, names[0], None) if names else None
    if found is None:
        raise ValueError(f"`architectures` of the configuration must name a class of {package.__name__}, got {names}")
    return found


def check_own(model_class: type, config_class: type) -> None:
    """Raise `ValueError` for classes that are not of this package.

    Args:
        model_class (`type`): class of a model.
        config_class (`type`): class of its configuration.
    """
    for kind in (model_class, config_class):
        if not kind.__module__.startswith("eigenhub."):
            raise ValueError(
                f"only models of eigenhub travel with their code, got {kind.__module__}.{kind.__qualname__}"
            )


def add_code(folder: Path, model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig]) -> ModelExport:
    """Write code files and `auto_map` into the folder of a saved model.

    Args:
        folder (`Path`): the folder.
        model_class (`type`): class of the saved model.
        config_class (`type`): class of its configuration.
    """
    classes = auto_classes(model_class, config_class)
    modules = [config_class.__module__, *(kind.__module__ for kind in classes.values())]
    files = bundle_sources(modules)
    for name, text in files.items():
        write_text(folder / name, text)
    auto_map = {"AutoConfig": _short_name(config_class)} | {auto: _short_name(c) for auto, c in classes.items()}
    _set_auto_map(folder / CONFIG_NAME, auto_map)
    return ModelExport(folder, model_class.__name__, len(files), auto_map)


def auto_classes(
    model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig]
) -> dict[str, type[PreTrainedModel]]:
    """Classes registered for a configuration by Auto class; the saved class comes first under the name it asks for.

    A class that no Auto class leads to says in `auto_class_name` which one shall in an export of it.

    Args:
        model_class (`type`): class of the saved model.
        config_class (`type`): class of its configuration.
    """
    from transformers.models.auto import modeling_auto

    found = {}
    for name, auto in vars(modeling_auto).items():
        mapping = getattr(auto, "_model_mapping", None)
        if name.startswith("AutoModel") and mapping is not None and config_class in mapping._extra_content:
            found[name] = mapping._extra_content[config_class]
    own_name = getattr(model_class, "auto_class_name", None)
    if model_class not in found.values():
        if own_name is None:
            raise ValueError(f"no Auto class leads to {model_class.__name__}, and it has no `auto_class_name`")
        found[own_name] = model_class
    return found


def _short_name(kind: type) -> str:
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def _set_auto_map(path: Path, auto_map: dict[str, str]) -> None:
    config = read_json(path) | {"auto_map": auto_map}
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
