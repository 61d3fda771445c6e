# SPDX-License-Identifier: Apache-2.0
"""ListOps by the recipe of the Long Range Arena: nested operations on digits, whose value is the class of the sequence."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from eigenhub.embedded.cache import cached_folder


#: Values of the operators on their arguments. MED cuts the mean of the two middle arguments down to an integer.
OPERATORS: dict[str, Callable[[Sequence[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(median(values)),
    "[SM": lambda values: sum(values) % 10,
}
END = "]"
NUM_CLASSES = 10
_DIGITS = tuple(str(digit) for digit in range(NUM_CLASSES))
_NAMES = tuple(OPERATORS)
_OPERATOR_SHARE = 0.25
_MIN_ARGS = 2
_PATIENCE = 1_000_000  # draws in a row without a new expression


@dataclass(frozen=True)
class ListOpsRecipe:
    """
    Which expressions there are. The defaults are those of the Long Range Arena (google-research/long-range-arena).

    Args:
        num_train (`int`, *optional*, defaults to 96000): number of training expressions.
        num_validation (`int`, *optional*, defaults to 2000): number of validation expressions.
        num_test (`int`, *optional*, defaults to 2000): number of test expressions.
        max_depth (`int`, *optional*, defaults to 10): depth at which every node is a digit; the root has depth 1.
        max_args (`int`, *optional*, defaults to 10): most arguments of an operator; the fewest are 2.
        min_length (`int`, *optional*, defaults to 500): expressions have more tokens than this, parentheses not counted.
        max_length (`int`, *optional*, defaults to 2000): expressions have fewer tokens than this.
        seed (`int`, *optional*, defaults to 0): seed of the draws.
    """

    num_train: int = 96_000
    num_validation: int = 2_000
    num_test: int = 2_000
    max_depth: int = 10
    max_args: int = 10
    min_length: int = 500
    max_length: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_depth < 2 or self.max_args < _MIN_ARGS:
            raise ValueError(
                f"`max_depth` and `max_args` must be at least 2, got {self.max_depth} and {self.max_args}"
            )
        longest = 1
        for _ in range(self.max_depth - 1):
            longest = 2 + self.max_args * longest
        if longest <= self.min_length or self.max_length <= self.min_length + 1:
            raise ValueError(
                f"no expression has more than `min_length`={self.min_length} and fewer than "
                f"`max_length`={self.max_length} tokens: with `max_depth`={self.max_depth} and "
                f"`max_args`={self.max_args} the longest has {longest}"
            )


#: A variant that a small model learns something about in a minute on a CPU.
SMALL = ListOpsRecipe(
    num_train=6_000, num_validation=1_000, num_test=1_000, max_depth=5, min_length=30, max_length=200
)


def load_listops(recipe: ListOpsRecipe = ListOpsRecipe()) -> DatasetDict:  # noqa: B008  # frozen
    """
    Distinct random expressions with their values, generated once and kept in the cache.

    A node is an operator with probability 1/4 and a digit otherwise, at `max_depth` always a digit; digits, operators and
    numbers of arguments are uniform. Expressions outside of the length bounds are drawn anew. The hundred thousand
    of the arena take a few minutes the first time.

    Args:
        recipe (`ListOpsRecipe`, *optional*, defaults to `ListOpsRecipe()`): sizes, bounds and seed.

    Returns:
        `DatasetDict` with the splits `train`, `validation` and `test` and the columns `text` (tokens, separated by blanks,
        without the parentheses that tokenizers delete, see [`lra_source`]) and `labels` (the value).

    Example:

    ```python
    >>> from eigenhub.embedded.listops import ListOpsRecipe, evaluate, load_listops

    >>> tiny = ListOpsRecipe(num_train=8, num_validation=2, num_test=2, max_depth=3, min_length=10, max_length=40)
    >>> row = load_listops(tiny)["train"][0]
    >>> evaluate(row["text"]) == row["labels"]
    True
    ```

    Nangia & Bowman, arXiv 1804.06028; the recipe is that of Long Range Arena, arXiv 2011.04006. There the splits follow the
    iteration order of a Python set, which changes from run to run; here they follow the order of the draws.
    """

    def build(folder: Path) -> None:
        _generate(recipe).save_to_disk(folder)

    return DatasetDict.load_from_disk(cached_folder("listops", asdict(recipe), build))


def expressions(recipe: ListOpsRecipe) -> Iterator[str]:
    """
    Endless distinct expressions as text without parentheses.

    Args:
        recipe (`ListOpsRecipe`): bounds and seed.
    """
    generator = random.Random(recipe.seed)
    seen: set[str] = set()
    fruitless = 0
    while True:
        tokens = _draw(generator, recipe)
        text = " ".join(tokens)
        if recipe.min_length < len(tokens) < recipe.max_length and text not in seen:
            seen.add(text)
            fruitless = 0
            yield text
        elif (fruitless := fruitless + 1) == _PATIENCE:
            raise ValueError(
                f"found only {len(seen)} distinct expressions for {recipe}: ask for fewer, or longer ones"
            )


def evaluate(text: str) -> int:
    """
    The value of an expression, with or without parentheses.

    Args:
        text (`str`): tokens separated by blanks.

    Example:

    ```python
    >>> from eigenhub.embedded.listops import evaluate

    >>> evaluate("[MAX 3 [SM 7 8 ] [MED 1 4 2 9 ] ]")
    5
    ```
    """
    stack: list[tuple[str, list[int]]] = [("", [])]
    for token in _without_parentheses(text):
        if token in OPERATORS:
            stack.append((token, []))
        elif token == END and len(stack) > 1 and stack[-1][1]:
            operator, arguments = stack.pop()
            stack[-1][1].append(OPERATORS[operator](arguments))
        elif token in _DIGITS:
            stack[-1][1].append(int(token))
        else:
            raise ValueError(f"`text` is no ListOps expression: {token!r} cannot stand where it does in {text[:80]!r}")
    if len(stack) != 1 or len(stack[0][1]) != 1:
        raise ValueError(f"`text` must be one whole ListOps expression, got {text[:80]!r}")
    return stack[0][1][0]


def lra_source(text: str) -> str:
    """
    An expression in the form of the arena's files: every operator takes one argument after the other, in parentheses.

    Args:
        text (`str`): an expression without parentheses.

    Example:

    ```python
    >>> from eigenhub.embedded.listops import lra_source

    >>> lra_source("[MIN 3 4 ]")
    '( ( ( [MIN 3 ) 4 ) ] )'
    ```
    """
    evaluate(text)  # refuses what is no expression
    stack: list[list[str]] = [[]]
    for token in text.split():
        if token in OPERATORS:
            stack.append([token])
        elif token == END:
            nested, *arguments = stack.pop()
            for argument in [*arguments, END]:
                nested = f"( {nested} {argument} )"
            stack[-1].append(nested)
        else:
            stack[-1].append(token)
    return stack[0][0]


def _without_parentheses(text: str) -> list[str]:
    return [token for token in text.split() if token not in ("(", ")")]


def _draw(generator: random.Random, recipe: ListOpsRecipe) -> list[str]:
    """Tokens of one tree, cut off once it is too long. The root is an operator: a digit alone would be rejected anyway."""
    # Python promises the stream of `random()` for ever, not that of `choice` or `randint`.
    uniform, num_args = generator.random, recipe.max_args - _MIN_ARGS + 1
    tokens = [_NAMES[int(4 * uniform())]]
    missing = [_MIN_ARGS + int(num_args * uniform())]  # arguments that every open operator still waits for
    while missing and len(tokens) < recipe.max_length:
        if missing[-1] == 0:
            missing.pop()
            tokens.append(END)
            continue
        missing[-1] -= 1
        if len(missing) + 1 < recipe.max_depth and uniform() <= _OPERATOR_SHARE:
            tokens.append(_NAMES[int(4 * uniform())])
            missing.append(_MIN_ARGS + int(num_args * uniform()))
        else:
            tokens.append(_DIGITS[int(10 * uniform())])
    return tokens


def _generate(recipe: ListOpsRecipe) -> DatasetDict:
    from tqdm.auto import tqdm

    sizes = {"train": recipe.num_train, "validation": recipe.num_validation, "test": recipe.num_test}
    features = Features({"text": Value("string"), "labels": ClassLabel(names=list(_DIGITS))})
    draws = expressions(recipe)
    splits = {}
    for name, size in sizes.items():
        texts = [next(draws) for _ in tqdm(range(size), desc=f"ListOps, {name}", disable=size < 20_000)]
        columns = {"text": texts, "labels": [evaluate(text) for text in texts]}
        splits[name] = Dataset.from_dict(columns, features=features)
    return DatasetDict(splits)
