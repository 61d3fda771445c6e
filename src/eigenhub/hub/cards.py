# SPDX-License-Identifier: Apache-2.0
"""Model cards: a method's Jinja template filled with its figures, or with those of one saved folder."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import Environment, StrictUndefined, TemplateError
from yaml import YAMLError

from eigenhub.files import read_text, write_text
from eigenhub.hub.eval_results import to_eval_results, write_eval_results
from eigenhub.hub.resources import find
from eigenhub.hub.results import Results, load_results
from eigenhub.hub.saved import SavedModel, read_saved
from eigenhub.hub.tables import results_table
from eigenhub.methods import Method, get_method


BLANK = "[More Information Needed]"
MARKER = "<!-- written by eigenhub -->"
REQUIRED_KEYS = ("library_name", "tags")
LICENSE_KEYS = ("license", "license_name", "license_link")
VERSIONED = ("eigenhub", "torch", "transformers", "peft", "accelerate", "datasets")
AUTO_CLASSES = {
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "TOKEN_CLS": "AutoPeftModelForTokenClassification",
    "QUESTION_ANS": "AutoPeftModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoPeftModelForFeatureExtraction",
}


class CardError(ValueError):
    """A card that must not be published; the message lists everything wrong with it."""


def card_problems(text: str, required: Sequence[str] = REQUIRED_KEYS) -> list[str]:
    """What is wrong with a card, found without the network.

    Args:
        text (`str`): the whole README, front matter included.
        required (`Sequence[str]`, *optional*, defaults to those of a model card): keys of the front matter.

    Returns:
        `list[str]`: one sentence per problem, empty for a good card.
    """
    try:
        data = ModelCard(text).data.to_dict()
    except Exception as error:  # the parser raises whatever YAML or the card fields raise
        return [f"front matter cannot be read: {error}"]
    problems = [f"front matter lacks `{key}`" for key in required if not data.get(key)]
    problems += [f"{BLANK} is left in the text"] if BLANK in text else []
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        try:
            compile(block, "card", "exec")
        except SyntaxError as error:
            problems.append(f"a python block does not compile: {error}")
    return problems


def installed_versions(names: Sequence[str] = VERSIONED) -> dict[str, str]:
    """Versions of the packages a reader may have to match.

    Args:
        names (`Sequence[str]`, *optional*, defaults to those of a model card): packages; absent ones are left out.
    """
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def render_template(template: str, context: Mapping[str, Any]) -> str:
    """Fill a card template; a name that it asks for and nobody gives is a `CardError`.

    Args:
        template (`str`): Jinja text.
        context (`Mapping[str, Any]`): variables of the template.
    """
    # otherwise it would be an empty line in a public card
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["results_table"] = results_table
    try:
        return environment.from_string(template).render(context)
    except TemplateError as error:
        raise CardError(f"card template: {error}") from error


def render_card(
    method: Method | str,
    *,
    saved: SavedModel | None = None,
    results: Results | None = None,
    repo_id: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
    **context: Any,
) -> ModelCard:
    """Fill a method's card template.

    The template sees `method`, `reference` (the figures in the method's results file), `results`, `config`, `records`,
    `auto_class`, `repo_id`, `base_model`, `versions`, `marker` and everything in `context`.

    Args:
        method (`Method | str`): the method or its slug.
        saved (`SavedModel`, *optional*): the folder that the card describes; without it the card describes the method.
        results (`Results`, *optional*): figures of that folder for its `model-index`; without a folder they default
            to the method's own file. Figures of one model never end up on the card of another.
        repo_id (`str`, *optional*, defaults to the name of the folder, or the slug): what readers pass to
            `from_pretrained`.
        base_model (`str`, *optional*, defaults to the one in the folder's configuration unless that is a local path):
            identifier of the base model on the Hub.
        license (`str`, *optional*, defaults to what the template says): licence of the weights, as the Hub spells it.
        context: further variables for the template.

    Returns:
        `ModelCard`: the card, checked offline; nothing is written.
    """
    method = get_method(method) if isinstance(method, str) else method
    reference = load_results(find(method.results))
    results = results if results is not None or saved else reference
    config = saved.config if saved else None
    repo_id = repo_id or (saved.folder.resolve().name if saved else method.slug)
    text = render_template(
        find(method.card).read_text(encoding="utf-8"),
        {
            "method": method,
            "reference": reference,
            "results": results,
            "config": config,
            "records": saved.records if saved else {},
            "auto_class": AUTO_CLASSES.get((config or {}).get("task_type") or "", "AutoPeftModel"),
            "repo_id": repo_id,
            "base_model": base_model or _hub_id((config or {}).get("base_model_name_or_path")),
            "versions": installed_versions(),
            "marker": MARKER,
            **context,
        },
    )
    return _checked(text, results, license, model_name=repo_id)


def _hub_id(name: str | None) -> str | None:
    """`name` if it looks like a Hub identifier: a path on this machine says nothing to a reader."""
    is_id = name is not None and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not Path(name).exists()
    return name if is_id else None


def _checked(text: str, results: Results | None, license: str | None, model_name: str) -> ModelCard:
    if problems := card_problems(text):
        raise CardError("; ".join(problems))
    card = ModelCard(text)
    if license is not None:
        card.data["license"] = license
    if results is not None and (entries := to_eval_results(results)):
        card.data["model_name"] = model_name
        card.data["eval_results"] = entries
    return card


def write_card(folder: str | Path, *, overwrite: bool = False, **options: Any) -> Path:
    """Write `README.md` (and `.eval_results/`) into a saved folder. Call it after `save_pretrained`, which edits cards.

    A file `results.yaml` in the folder supplies the figures of this very model. A licence that the README stated before stays,
    unless another is asked for or the base model has changed.

    Args:
        folder (`str | Path`): an adapter or model folder.
        overwrite (`bool`, *optional*, defaults to `False`): replace a README that somebody wrote; blank templates and
            cards of ours are always replaced.
        options: passed to `render_card`.

    Returns:
        `Path`: the README.
    """
    saved = read_saved(folder)
    path = saved.folder / "README.md"
    old = read_text(path) if path.exists() else ""
    if old and not overwrite and BLANK not in old and MARKER not in old:
        raise FileExistsError(f"{path} was written by somebody; pass overwrite=True (--overwrite) to replace it")
    own = saved.folder / "results.yaml"
    results = load_results(own) if own.exists() else None
    card = render_card(saved.method, saved=saved, results=results, **options)
    if options.get("license") is None:
        _keep_license(card, old)
    write_text(path, str(card))
    if results is not None:
        write_eval_results(results, saved.folder)
    return path


def _keep_license(card: ModelCard, old_text: str) -> None:
    """Take over the licence of an earlier README, except from a card of ours for another base model."""
    try:
        old = ModelCard(old_text).data
    except (ValueError, YAMLError):  # a person's README may hold any front matter
        return
    if old.get("license") and not (MARKER in old_text and old.get("base_model") != card.data.get("base_model")):
        for key in LICENSE_KEYS:
            card.data[key] = old.get(key)
