# SPDX-License-Identifier: Apache-2.0
"""Words of the page and default settings, apart from everything heavy so that it opens at once."""

from typing import Any


METHODS = {
    "fedsvd": "FedSVD",
    "ffa_orth": "FFA-LoRA, A orthonormal",
    "ffa": "FFA-LoRA",
    "fedavg": "FedAvg-LoRA",
    "fedex": "FedEx-LoRA",
    "flexlora": "FlexLoRA",
    "flora": "FLoRA",
    "rolora": "RoLoRA",
}
SUMMARIES = {
    "fedsvd": "clients train B; the server averages B and refactors B A by its SVD",
    "ffa_orth": "clients train B; A is made orthonormal once: the fair control of FedSVD",
    "ffa": "clients train B; A stays as it was initialised",
    "fedavg": "clients train A and B; both are averaged, their product is not",
    "fedex": "as FedAvg-LoRA, and what the average misses goes into the base weights",
    "flexlora": "clients train A and B; the mean product is cut to the rank by an SVD",
    "flora": "clients train A and B; the mean product goes into the base weights",
    "rolora": "clients train B in odd rounds and A in even ones",
}
#: Methods whose clients train B alone, so that under differential privacy noise never multiplies noise.
B_ONLY = ("fedsvd", "ffa_orth", "ffa")

SGD, ADAMW = "sgd", "adamw"
OPTIMIZERS = {SGD: "SGD", ADAMW: "AdamW"}
RATES = {SGD: 0.5, ADAMW: 3e-3}
INITS = {
    "kaiming": "uniform, PEFT's default",
    "gaussian": "Gaussian, standard deviation 1/r",
    "orthonormal": "orthonormal rows",
}
RANK, BATCH, CLIP = 8, 32, 1.0

#: Bounds of what one visitor may ask for; a run of the largest takes about a minute.
CLIENTS, ROUNDS, STEPS = (2, 12), (1, 40), (1, 20)
EPSILONS = (1.0, 10.0)
#: The heterogeneity is chosen by its decadic logarithm.
EXPONENTS = (-1.5, 2.0)
#: Rows that every client has at least; one in four of them it keeps to be judged on.
MIN_ROWS, HELD_OUT = 20, 0.25

EMBEDDED, EMBEDDED_PRIVATE = "embedded:fedavg", "embedded:private"
#: A colon cannot stand in a Hub id, so these names never hide a repository.
ADAPTERS = {
    EMBEDDED: "Embedded: FedAvg-LoRA on the digits",
    EMBEDDED_PRIVATE: "Embedded: FFA-LoRA on the digits, ε = 6",
}
#: Of an adapter that is looked at: bytes of its file, and rank.
MAX_BYTES, MAX_RANK = 256 * 2**20, 256

# One run at a time: two would take turns on the same cores.
QUEUED: dict[str, Any] = {"concurrency_id": "federation", "concurrency_limit": 1}
