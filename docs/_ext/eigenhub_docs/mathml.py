# SPDX-License-Identifier: Apache-2.0
"""Formulas as MathML, which every browser of today draws by itself: no script, no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator


LETTER = re.compile(r'</?mi(?: mathvariant="normal")?>')
# the converter spells a word letter by letter
UPRIGHT = re.compile(r'(?:<mi mathvariant="normal">[A-Za-z]</mi>){2,}')
logger = logging.getLogger(__name__)


def to_mathml(node: nodes.Element, display: str) -> str:
    """The formula of a math node; what the converter left as it was is a warning."""
    latex = node.astext()
    formula = convert(" ".join(latex.split()), display=display)
    if "\\" in formula:
        logger.warning("formula with a command that MathML conversion does not know: %s", latex, location=node)
    return UPRIGHT.sub(lambda word: f"<mi>{LETTER.sub('', word[0])}</mi>", formula)


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(to_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{to_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
