# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of docs/ that are made from configurations and results, so that both stay readable on GitHub.

python docs/_ext/write_pages.py
"""

from eigenhub_docs.negative_results import negative_results_page
from eigenhub_docs.papers import papers_page
from eigenhub_docs.repository import ROOT


PAGES = {"docs/papers.md": papers_page, "docs/negative_results.md": negative_results_page}


def main() -> None:
    for path, page in PAGES.items():
        (ROOT / path).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
