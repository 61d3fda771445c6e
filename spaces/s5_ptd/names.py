# SPDX-License-Identifier: Apache-2.0
"""Words of the page and default settings, apart from everything heavy so that it opens at once."""

#: The order of the systems in the embedded classifiers, and the frequencies at which they can be disturbed.
ORDER = 32
EMBEDDED_TEXT = "embedded:python"
#: A colon cannot stand in a Hub id, so this name never hides a repository.
WRITERS = {EMBEDDED_TEXT: "Embedded: S5-PTD over bytes, Python sources"}
INITS = {"legs": "S4D-LegS (diagonal part)", "ptd": "S4-PTD (optimised)", "lowrank": "S4-PTD (low rank)"}
FREQUENCIES = {
    "legs": "where S4D-LegS is loudest",
    "ptd": "where S4-PTD is loudest",
    "low": "low, inside of what a digit is made of",
}
ORDERS = (8, 16, 32, 64)
MATRICES = {
    "hippo": "HiPPO, A",
    "legs": "its normal part, S = A + P Pᵀ",
    "ptd": "perturbed, A + E (optimised)",
    "lowrank": "perturbed, A + τ P Pᵀ",
}
PROMPT = "def read(self, path):\n"
