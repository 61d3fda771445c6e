# SPDX-License-Identifier: Apache-2.0
"""Words of the page and default settings, apart from everything heavy so that it opens at once."""

from typing import Any


TOLD, BASE = "embedded:told", "embedded:base"
#: A colon cannot stand in a Hub id, so these names never hide a repository.
MODELS = {
    TOLD: "Embedded: knows 60 people, was told of 70 more",
    BASE: "Embedded: knows 60 people, nobody else",
}
#: Of a model that a visitor names.
MAX_PARAMETERS = 2_000_000_000

LAYERS = {"middle": "middle", "penultimate": "last but one"}
TOKENS = {"last": "last token", "mean": "mean of the tokens", "mean_last": "half mean, half last token"}
CONVENTIONS = {
    "inside": "INSIDE, its code: covariance over features",
    "inside_paper": "INSIDE, its formula: scatter over features",
    "send": "SenD's code: scatter over features, small α",
    "sample": "covariance over the answers",
}

#: Bounds of what one visitor may ask for.
SAMPLES, TEMPERATURES, LENGTHS = (2, 30), (0.05, 2.0), (1, 128)
MAX_PROMPT = 4000  # characters
QUESTIONS = (40, 400)
MAX_PROMPTS, MIN_PROMPTS, MAX_FILE = 200, 8, 2 * 2**20
QUANTILES = (0.5, 0.99)

#: Scores of one prompt; in all of them higher is less certain.
DETECTORS = {
    "eigenscore": "EigenScore",
    "length_normalized_entropy": "length-normalised entropy",
    "mean_token_entropy": "mean token entropy",
    "one_minus_mode_share": "1 − share of the commonest answer",
    "num_distinct": "distinct answers",
    "mean_length": "length, tokens",
}
#: What the questions of the embedded world are about.
KINDS = {
    "known": "people it knows",
    "told": "new people, in a form it was told",
    "paraphrase": "new people, in a form it was never told",
    "unknown": "people of whom it learnt that nothing is known",
    "stranger": "people it never heard of",
}
#: Buttons of the page.
EXAMPLES = {"known": "Someone it knows", "paraphrase": "A form it was never told", "stranger": "A stranger"}
CALIBRATED_ON = ["known", "paraphrase", "unknown"]
JUDGES = {
    "exact": "is the right one, but for case and punctuation",
    "contains": "contains the right one",
    "number": "ends on the right number",
}
YOUDEN, QUANTILE = "youden", "quantile"
THRESHOLDS = {YOUDEN: "right and wrong answers (Youden's J)", QUANTILE: "a quantile of the scores"}

ARMS = {
    "send": "SenD: the indices that move most",
    "random": "as many random indices",
    "dropout": "dropout 0.1",
    "ema": "averaged weights",
}
#: Arms that drop indices, from the first selection on.
MASKING = ("send", "random")
SITES = {
    "hidden": "output of the block",
    "mlp": "inside of its MLP",
    "update": "what the block adds",
}
RHOS, WINDOWS, PERIODS, EPOCHS = (0.05, 0.6), (2, 5), (1, 6), (4, 20)
#: Of the continual phase, as in the study.
RATE, DECAY, BATCH = 1e-3, 0.01, 64

#: Of a matrix that a visitor brings: answers, features, bytes.
MAX_ROWS, MAX_FEATURES, MAX_MATRIX = 512, 20_000, 32 * 2**20

#: One training at a time: two would take turns on the same cores.
QUEUED: dict[str, Any] = {"concurrency_id": "training", "concurrency_limit": 1, "trigger_mode": "multiple"}
CALIBRATING, TRAINING = "calibrating", "training"
