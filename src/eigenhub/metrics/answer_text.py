# SPDX-License-Identifier: Apache-2.0
"""Answers as texts that can be compared."""

import re
import string


_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain_answer(text: str) -> str:
    """
    The first line in lower case, without punctuation, articles and double spaces, as exact match on SQuAD compares answers.

    Args:
        text (`str`): an answer.

    Example:

    ```python
    >>> from eigenhub.metrics.answer_text import plain_answer
    >>> plain_answer("The U.S., I think.\\nOr not?")
    'us i think'
    ```
    """
    first = text.strip().split("\n")[0].lower()
    return " ".join(_ARTICLES.sub(" ", first.translate(_PUNCTUATION)).split())
