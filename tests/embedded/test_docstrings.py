# SPDX-License-Identifier: Apache-2.0
from eigenhub.embedded.docstrings import load_docstrings
from eigenhub.models.bt2.text_docstrings import docstring_pairs


def test_rows_are_the_pairs_every_twentieth_held_out():
    rows, pairs = load_docstrings(["email"]), docstring_pairs(["email"])
    assert rows.num_rows == {"train": len(pairs) - len(pairs) // 20, "test": len(pairs) // 20}
    assert rows["test"][0] == pairs[19]._asdict()
