# SPDX-License-Identifier: Apache-2.0
"""Words of the page, apart from everything heavy so that it opens at once."""

EMBEDDED_OLD, EMBEDDED_NEW = "embedded:old", "embedded:new"
#: A colon cannot stand in a Hub id, so these names never hide a repository.
OLD_CHOICES = {EMBEDDED_OLD: "Embedded: first version, 64 wide"}
NEW_CHOICES = {EMBEDDED_NEW: "Embedded: its successor, 96 wide"}
STATES = ("before", "mixed", "after")
TITLES = {
    "before": "Old index, old query",
    "mixed": "Mixed index, new query",
    "after": "New index, new query",
}
TEXT_METRIC, IMAGE_METRIC = "recall@10", "map"
METRIC_LABELS = {TEXT_METRIC: "Recall@10", IMAGE_METRIC: "Mean average precision"}
HITS = 5
