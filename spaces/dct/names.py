# SPDX-License-Identifier: Apache-2.0
"""Words of the page and default settings, apart from everything heavy so that it opens at once."""

TRAINED = "embedded:trained"
UNTRAINED = "embedded:untrained"
#: A colon cannot stand in a Hub id, so these names never hide a repository.
MODELS = {TRAINED: "Embedded: byte-level Llama, trained", UNTRAINED: "Embedded: the same, untrained"}
MOMENTS = {"weight": "weight", "gradient": "gradient", "momentum": "momentum of 20 gradients"}
SIDES = {"auto": "the shorter side", "right": "rows (G B)", "left": "columns (Bᵀ G)"}
NORMS = {"sum of |entries|": 1, "sum of squares": 2}
BASES = {"svd": "SVD", "dct2": "DCT-II", "dct3": "DCT-III", "random": "random basis", "identity": "coordinate axes"}

FROZEN, ADAMW, MUON, DCT, TRION, AUON, HYBRID = CONTENDERS = (
    "frozen (control)",
    "AdamW",
    "Muon",
    "DCT-AdamW",
    "Trion",
    "AuON",
    "Hybrid AuON",
)
RACING = [FROZEN, ADAMW, MUON, DCT, TRION, AUON]
#: Rates that do well in some hundred steps of this race; the width of every matrix in it is 128.
RATES = {ADAMW: 1e-3, MUON: 2e-2, DCT: 4e-3, TRION: 5e-2, AUON: 3e-2, HYBRID: 2e-2}
AUX_RATE = 1e-2
RACE_BASES = {"dct2": "DCT-II", "dct3": "DCT-III", "random": "random", "identity": "axes"}
LEFT_OVER = {
    "dropped": "dropped",
    "fira": "stepped along, scaled (fira)",
    "fp32": "kept for the next step, fp32",
    "bf16": "kept for the next step, bf16",
    "int8": "kept for the next step, int8",
}

PRESETS = {
    "llama_60m": "Llama 60M",
    "llama_130m": "Llama 130M",
    "llama_350m": "Llama 350M",
    "llama_1b": "Llama 1B",
    "llama_7b": "Llama 7B",
}
DTYPES = {"float32": "32 bits", "bfloat16": "16 bits"}

MATRICES = {
    "gaussian": "random, Gaussian",
    "ill_conditioned": "random, condition number 10⁴",
    "spike": "a single entry",
}
