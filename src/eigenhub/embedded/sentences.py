# SPDX-License-Identifier: Apache-2.0
"""Labelled sentences in tab-separated files, one per split: the form in which SST-2 and its like are passed around."""

from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from eigenhub.files import read_text


SPLITS = ("train", "dev", "test")
#: Of a class number: every class up to the largest gets a name.
MOST_DIGITS = 4


def load_sentences(folder: str | Path) -> DatasetDict:
    """
    The splits of a folder with `train.tsv`, `dev.tsv` and `test.tsv`; those that are missing are left out.

    Each line holds a sentence, a tab and the number of its class. Nothing is quoted and there is no header.

    Args:
        folder (`str` or `Path`): where the files lie.

    Returns:
        `DatasetDict` with the columns `sentence` and `labels` (classes from 0 to the largest number in any file).

    Raises:
        FileNotFoundError: if the folder holds none of the files.
        ValueError: for a line of another form, with its file and number.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from eigenhub.embedded.sentences import load_sentences

    >>> folder = Path(mkdtemp())
    >>> _ = (folder / "train.tsv").write_text("a gem\\t1\\ndull\\t0\\n")
    >>> load_sentences(folder)["train"]["labels"][:]
    [1, 0]
    ```
    """
    folder = Path(folder).expanduser()
    files = {split: folder / f"{split}.tsv" for split in SPLITS}
    rows = {split: _read(path) for split, path in files.items() if path.is_file()}
    if not rows:
        raise FileNotFoundError(f"{folder} holds none of {', '.join(path.name for path in files.values())}")
    num_classes = 1 + max(label for _, labels in rows.values() for label in labels)
    names = [str(number) for number in range(num_classes)]
    features = Features({"sentence": Value("string"), "labels": ClassLabel(names=names)})
    return DatasetDict(
        {
            split: Dataset.from_dict({"sentence": sentences, "labels": labels}, features=features)
            for split, (sentences, labels) in rows.items()
        }
    )


def _read(path: Path) -> tuple[list[str], list[int]]:
    sentences, labels = [], []
    # only "\n" ends a line: `splitlines` would also cut at characters that occur inside of sentences
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        sentence, _, label = line.rpartition("\t")
        if not (sentence and label.isascii() and label.isdigit() and len(label) <= MOST_DIGITS):
            raise ValueError(f"{path}, line {number}: expected a sentence, a tab and a class number, got {line!r}")
        sentences.append(sentence)
        labels.append(int(label))
    return sentences, labels
