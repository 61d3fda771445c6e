# SPDX-License-Identifier: Apache-2.0
"""Makes, exports and pushes a checkpoint of every method with its card and its figures; prints what each computes."""

import json
from pathlib import Path

from huggingface_hub import HfApi
from transformers import AutoConfig

from eigenhub.cli import load_object
from eigenhub.hub.cards import write_card
from eigenhub.hub.publish import publish_folder, publish_space
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from eigenhub.methods import get_method
from tests.hub_users.cases import CASES, UserCase


def figures(slug: str) -> Results:
    """One made-up figure, of a leaderboard, so that both of the Hub's forms are written."""
    figure = Measured(
        id="test",
        method=slug,
        task="text-generation",
        dataset=DatasetRef("users/board", "A leaderboard", "test", task_id="small"),
        metric="accuracy",
        value=0.625,
        setting="tiny",
        seeds=[0],
        command="python author.py",
        hardware="CPU",
        date="2026-01-31",
        versions={"eigenhub": "0"},
    )
    return Results(slug, [figure])


def dress(folder: Path, repo: str, slug: str) -> None:
    """Figures and card."""
    save_results(figures(slug), folder / "results.yaml")
    write_card(folder, repo_id=repo, overwrite=True)


def publish(case: UserCase) -> dict[str, list[float]]:
    """Two versions of the checkpoint, the first one tagged, and the export of the second."""
    answers, export = {}, get_method(case.slug).exporter
    for tag, steps in (("v1", 1), ("main", 3)):
        folder = Path(case.slug) / tag
        model = case.make(folder, steps)
        answers[tag] = case.answer(model).flatten().tolist()
        dress(folder, case.repo, case.slug)
        publish_folder(folder, case.repo)
        if tag != "main":
            api.create_tag(case.repo, tag=tag)
    if case.exported:
        plain = Path(case.slug) / "plain"
        load_object(str(export))(str(folder), plain)
        if (plain / "config.json").exists():  # an architecture of ours; an adapter has become one of PEFT's
            dress(plain, case.plain_repo, case.slug)
        publish_folder(plain, case.plain_repo)
        answers["plain"] = case.answer(case.load_plain(str(plain))).flatten().tolist()
    publish_space(case.slug, f"{case.repo}-space")
    return answers


def refusal(repo: str) -> str:
    """What transformers says of a private repository to somebody without a token."""
    try:
        AutoConfig.from_pretrained(repo, token=False)
    except OSError as error:
        return str(error)
    return "not refused"


api = HfApi()
answers = {slug: publish(case) for slug, case in CASES.items()}
publish_folder("send/main", "users/hidden", private=True)
refused = refusal("users/hidden")
assert AutoConfig.from_pretrained("users/hidden").model_type == "gpt_neox"
print(json.dumps({"answers": answers, "refusal": refused}))
