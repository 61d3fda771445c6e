# SPDX-License-Identifier: Apache-2.0
"""ListOps: the recipe's bounds and shares, the evaluator against an independent one, the tokens."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from eigenhub.embedded.listops import OPERATORS, SMALL, ListOpsRecipe, evaluate, expressions, load_listops, lra_source
from eigenhub.embedded.listops_tokenizer import listops_tokenizer


TINY = ListOpsRecipe(num_train=40, num_validation=8, num_test=8, max_depth=4, min_length=12, max_length=60)


def drawn(recipe: ListOpsRecipe, number: int) -> list[str]:
    return list(islice(expressions(recipe), number))


def value_of_pairs(source: str) -> int:
    """The value of the arena's parenthesised form by its own meaning: pairs that apply an operator to one more argument."""

    def parse(tokens: list[str]):
        token = tokens.pop()
        if token != "(":
            return int(token) if token.isdecimal() else token
        left, right = parse(tokens), parse(tokens)
        assert tokens.pop() == ")"
        return left, right

    def collected(node) -> tuple[str, list[int]]:
        if isinstance(node, str):
            return node, []
        name, values = collected(node[0])
        return name, [*values, value(node[1])]

    def value(node) -> int:
        if isinstance(node, int):
            return node
        partial, end = node
        assert end == "]"
        name, values = collected(partial)
        functions = {"[MIN": np.min, "[MAX": np.max, "[MED": np.median, "[SM": lambda v: np.sum(v) % 10}
        return int(functions[name](values))

    tokens = source.split()[::-1]
    result = value(parse(tokens))
    assert tokens == []
    return result


def depth_of(text: str) -> int:
    open_, deepest = 0, 0
    for token in text.split():
        deepest = max(deepest, open_ + 1)
        open_ += (token in OPERATORS) - (token == "]")
    return deepest


def test_evaluator_agrees_with_an_independent_one() -> None:
    small = drawn(SMALL, 900)
    for text in [*small, *drawn(ListOpsRecipe(), 100)]:
        source = lra_source(text)
        assert evaluate(text) == evaluate(source) == value_of_pairs(source)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[MED 1 4 ]", 2),  # 2.5 is cut, not rounded
        ("[MED 3 4 ]", 3),  # nor rounded to even
        ("[MED 9 0 5 ]", 5),
        ("[SM 9 9 9 ]", 7),
        ("[MIN [MAX 2 8 ] 9 ]", 8),
        ("7", 7),
    ],
)
def test_known_values(text: str, value: int) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text", ["", "3 4", "[MIN ]", "[MIN 3", "]", "[MIN 3 ] ]", "[AVG 3 4 ]", "[MAX 12 ]", "[SM ٣ ]"]
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`text`"):
        evaluate(text)


@pytest.mark.parametrize("recipe", [SMALL, ListOpsRecipe()], ids=["small", "arena"])
def test_lengths_and_depths_are_within_the_bounds(recipe: ListOpsRecipe) -> None:
    texts = drawn(recipe, 300)
    lengths = [len(text.split()) for text in texts]
    assert recipe.min_length < min(lengths) and max(lengths) < recipe.max_length
    assert max(map(depth_of, texts)) == recipe.max_depth
    assert len(set(texts)) == len(texts)


def test_shares_of_the_recipe() -> None:
    """Unbounded lengths, so that nothing but the recipe's probabilities acts: digits, operators, arguments, leaves."""
    recipe = ListOpsRecipe(max_depth=3, max_args=10, min_length=1, max_length=10_000)
    texts = drawn(recipe, 4000)
    tokens = Counter(token for text in texts for token in text.split())
    digits, operators = [tokens[str(d)] for d in range(10)], [tokens[name] for name in OPERATORS]
    assert max(digits) / min(digits) < 1.1 and max(operators) / min(operators) < 1.15
    second = [top_arguments(text) for text in texts]
    share = sum(a in OPERATORS for row in second for a in row) / sum(map(len, second))
    assert share == pytest.approx(0.25, abs=0.01)
    counts = Counter(map(len, second))
    assert set(counts) == set(range(2, 11)) and max(counts.values()) / min(counts.values()) < 1.35


def top_arguments(text: str) -> list[str]:
    """First token of every argument of the root."""
    open_, found = 0, []
    for token in text.split():
        if open_ == 1 and token != "]":
            found.append(token)
        open_ += (token in OPERATORS) - (token == "]")
    return found


def test_splits_are_distinct_seeded_and_kept(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_listops(TINY)
    assert {name: len(split) for name, split in data.items()} == {"train": 40, "validation": 8, "test": 8}
    texts = [text for split in data.values() for text in split["text"]]
    assert texts == drawn(TINY, 56)
    assert len(set(texts)) == 56
    assert [evaluate(text) for text in data["test"]["text"]] == data["test"]["labels"]
    assert data["train"].features["labels"].names == [str(i) for i in range(10)]
    assert drawn(replace(TINY, seed=1), 5) != texts[:5]
    monkeypatch.setattr("eigenhub.embedded.listops._generate", None)  # a second call must not generate
    assert load_listops(TINY)["train"]["text"] == data["train"]["text"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_depth": 1}, "`max_depth` and `max_args` must be at least 2, got 1 and 10"),
        ({"max_args": 1}, "got 10 and 1"),
        ({"max_depth": 2}, "more than `min_length`=500 .* the longest has 12"),
        ({"min_length": 60, "max_length": 61}, "fewer than `max_length`=61"),
    ],
)
def test_impossible_recipes(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ListOpsRecipe(**changes)


def test_a_recipe_with_too_few_expressions_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenhub.embedded.listops._PATIENCE", 20_000)
    few = ListOpsRecipe(max_depth=2, max_args=2, min_length=1, max_length=20)  # 4 operators on two digits
    with pytest.raises(ValueError, match="found only 400 distinct expressions"):
        drawn(few, 401)


def test_tokens(tmp_path: Path) -> None:
    tokenizer = listops_tokenizer()
    assert len(tokenizer) == 18
    text = drawn(SMALL, 1)[0]
    ids = tokenizer(text)["input_ids"]
    assert ids == tokenizer(lra_source(text))["input_ids"]
    expected = [*("X" if token == "]" else token for token in text.split()), "<eos>"]
    assert tokenizer.convert_ids_to_tokens(ids) == expected
    assert tokenizer.unk_token_id not in ids and tokenizer("[AVG")["input_ids"][0] == tokenizer.unk_token_id
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == ids


def test_cutting_keeps_the_end_and_padding_goes_right() -> None:
    tokenizer = listops_tokenizer(16)
    longer, shorter = drawn(SMALL, 1)[0], "[MIN 3 4 ]"
    batch = tokenizer([longer, shorter], truncation=True, padding=True)
    assert len(batch["input_ids"][0]) == 16 and batch["input_ids"][0][-1] == tokenizer.eos_token_id
    assert batch["input_ids"][1][5:] == [tokenizer.pad_token_id] * 11
    assert batch["attention_mask"][1] == [1] * 5 + [0] * 11
