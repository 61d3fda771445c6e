# SPDX-License-Identifier: Apache-2.0
"""What the documentation adds to Sphinx: the API reference, pages and sources of the repository, formulas as MathML."""

from typing import Any

from sphinx.application import Sphinx

from eigenhub_docs import api, mathml, repository


def setup(app: Sphinx) -> dict[str, Any]:
    for part in (repository, api, mathml):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
