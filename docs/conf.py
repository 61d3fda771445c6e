# SPDX-License-Identifier: Apache-2.0
"""Configuration of the documentation site: `make docs` builds it."""

import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

project = "eigenhub"
author = "The eigenhub authors"
copyright = author

# Address of the repository on the web, as `https://github.com/OWNER/NAME`. Where it is empty, links to files of the
# repository lead to copies inside of the site.
repository_url = ""
repository_branch = "main"

extensions = ["myst_parser", "sphinx_copybutton", "eigenhub_docs"]
source_suffix = {".md": "markdown", ".myst": "markdown"}  # .myst: written by the build, ignored by git
exclude_patterns = ["_ext"]
root_doc = "index"
smartquotes = False  # two hyphens begin an option

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist", "substitution"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 79
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "eigenhub"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
