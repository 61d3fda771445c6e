# SPDX-License-Identifier: Apache-2.0
import pytest

from eigenhub.metrics.answer_text import plain_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Eiffel Tower.\nIt is in Paris.", "eiffel tower"),
        ("U.S.", "us"),
        ("It's  an apple, a pear", "its apple pear"),
        ("anthem of a theatre", "anthem of theatre"),
        ("...", ""),
        ("", ""),
    ],
)
def test_an_answer_is_reduced_to_its_words(text, expected):
    assert plain_answer(text) == expected
