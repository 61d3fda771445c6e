# SPDX-License-Identifier: Apache-2.0
"""Names of the embedded pairs, apart from everything heavy so that the page opens at once."""

DIGITS = "embedded:digits"
PROBLEMS = "embedded:problems"
#: A colon cannot stand in a Hub id, so these names never hide a repository.
CHOICES = {DIGITS: "Embedded: ViT, turned to upright digits", PROBLEMS: "Embedded: Llama, sums to differences"}
