# SPDX-License-Identifier: Apache-2.0
"""Words of the page, apart from everything heavy so that it opens at once."""

DIGITS = "embedded:digits"
PROBLEMS = "embedded:problems"
#: A colon cannot stand in a Hub id, so these names never hide a repository.
CHOICES = {DIGITS: "Embedded: ViT, turned to upright digits", PROBLEMS: "Embedded: Llama, sums to differences"}
SAMPLE_PROMPT = "Ines has 17 shells and gives away 4. How many shells does Ines have left?\n"
HEADERS = ["module", "rank", "κ before", "κ after", "‖UᵀU − I‖", "‖VVᵀ − I‖", "mean |ΔS| / S", "angle of U (°)"]
DATATYPES = ["str", *["number"] * (len(HEADERS) - 1)]
