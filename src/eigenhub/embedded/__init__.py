# SPDX-License-Identifier: Apache-2.0
"""Data and small base models that need no network: what every script, demo, Space and test falls back on.

Nothing is imported here, so that naming the package costs nothing; import from the modules:

- [`eigenhub.embedded.digits`]: scikit-learn's handwritten digits as a `DatasetDict`, turned by quarter circles,
- [`eigenhub.embedded.vit`]: a small ViT pretrained on turned digits,
- [`eigenhub.embedded.arithmetic`]: generated word problems with answers in the manner of GSM8K,
- [`eigenhub.embedded.llama`]: a small Llama and its tokenizer, pretrained on given text,
- [`eigenhub.embedded.byte_llama`]: a small Llama over bytes, new or pretrained, and its text,
- [`eigenhub.embedded.facts`]: a world of facts to recall, with exact counts of wrong answers, beside
  [`eigenhub.embedded.fact_model`] and [`eigenhub.embedded.fact_answers`],
- [`eigenhub.embedded.shapes`]: images of one coloured shape each, with the factors that they were drawn from, beside
  [`eigenhub.embedded.shape_factors`], which reads them back, and [`eigenhub.embedded.shape_generator`],
- [`eigenhub.embedded.roberta`]: a small RoBERTa and its tokenizer, pretrained on given sentences,
- [`eigenhub.embedded.sentences`]: labelled sentences from tables of a folder,
- [`eigenhub.embedded.llama_sizes`]: Llama architectures to train from scratch, from bytes to a billion parameters,
- [`eigenhub.embedded.python_sources`]: the sources of Python's standard library as text,
- [`eigenhub.embedded.byte_tokenizer`]: one token per byte,
- [`eigenhub.embedded.text`]: text and a language model by name, `embedded` among the names,
- [`eigenhub.embedded.cache`]: where the pretrained folders are kept.
"""
