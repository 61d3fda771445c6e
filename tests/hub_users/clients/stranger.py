# SPDX-License-Identifier: Apache-2.0
"""Loads every checkpoint without the package, which cannot be imported here, and runs the cards of exported models."""

import json
from importlib.util import find_spec

from tests.hub_users.card_code import run_card
from tests.hub_users.cases import CASES, ModelCase


assert find_spec("eigenhub") is None
found = {slug: case.answer(case.load_plain(case.plain_repo)).flatten().tolist() for slug, case in CASES.items()}
cards = {slug: run_card(case.plain_repo) for slug, case in CASES.items() if isinstance(case, ModelCase)}
print(json.dumps({"answers": found, "cards": cards}))
