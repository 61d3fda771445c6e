# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of ListOps as in the Long Range Arena: parentheses go, a closing bracket is called X, a blank separates."""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from eigenhub.embedded.listops import NUM_CLASSES, OPERATORS


PAD, UNKNOWN, EOS = "<pad>", "<unk>", "<eos>"


def listops_tokenizer(max_length: int = 2048) -> PreTrainedTokenizerFast:
    """
    A tokenizer of 18 tokens: padding, unknown, end of sequence, four operators, the closing bracket and ten digits.

    It reads both the files of the arena and the text of [`~eigenhub.embedded.listops.load_listops`], and appends the
    end-of-sequence token, which stays when a text is cut to `max_length`.

    Args:
        max_length (`int`, *optional*, defaults to 2048): `model_max_length` of the tokenizer, the arena's longest input.

    Example:

    ```python
    >>> from eigenhub.embedded.listops_tokenizer import listops_tokenizer

    >>> tokenizer = listops_tokenizer()
    >>> tokenizer.convert_ids_to_tokens(tokenizer("( ( ( [MIN 3 ) 4 ) ] )")["input_ids"])
    ['[MIN', '3', '4', 'X', '<eos>']
    ```
    """
    tokens = [PAD, UNKNOWN, EOS, *OPERATORS, "X", *map(str, range(NUM_CLASSES))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"[()]"), ""), normalizers.Replace("]", "X")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, vocabulary[EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=EOS,
        model_max_length=max_length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )
