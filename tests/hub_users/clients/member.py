# SPDX-License-Identifier: Apache-2.0
"""Loads every checkpoint with the package, by name and by tag, and runs its card; prints what came out."""

import json

from tests.hub_users.card_code import run_card
from tests.hub_users.cases import CASES, UserCase


def answers(case: UserCase) -> dict[str, list[float]]:
    return {tag: case.answer(case.load(case.repo, revision=tag)).flatten().tolist() for tag in ("main", "v1")}


found = {slug: answers(case) for slug, case in CASES.items()}
cards = {slug: run_card(case.repo) for slug, case in CASES.items()}
print(json.dumps({"answers": found, "cards": cards}))
