# SPDX-License-Identifier: Apache-2.0
"""The page docs/papers.md: each paper, what of it is here, and every published setting beside the file that runs it."""

import re

from eigenhub.methods import METHODS, Method
from eigenhub_docs.configs import Config, configs_of


HEAD = """# Papers and their settings

Each paper that is implemented here, and for each setting that was published the configuration that runs it. What is quoted is the
comment in that configuration: the published setting and figures, and where ours departs from it. Figures in it are those of the
sources named. What we measured ourselves is on the pages of the methods, and what did not hold in [a log of its own](negative_results.md).

Commands are given for a checkout of the repository; `accelerate launch SCRIPT` can be written `eigenhub train SLUG` where the script is the
method's own.

This page is written by `python docs/_ext/write_pages.py` from the configurations; change those.
"""


def papers_page() -> str:
    """The whole page."""
    return "\n".join([HEAD, _contents(), *(_method(method) for method in METHODS)])


def _contents() -> str:
    rows = ["| paper | arXiv | here | configurations |", "| --- | --- | --- | --- |"]
    for m in METHODS:
        link = f"[{m.title}](methods/{m.slug}.md)"
        rows.append(
            f"| {m.paper} | [{m.arxiv}](https://arxiv.org/abs/{m.arxiv}) | {link} | {len(configs_of(m.slug))} |"
        )
    return "\n".join(rows) + "\n"


def _method(m: Method) -> str:
    configs = configs_of(m.slug)
    published = [config for config in configs if config.is_published]
    small = [config for config in configs if not config.is_published]
    lines = [f"## {m.title}", "", f"{m.paper}, [arXiv {m.arxiv}](https://arxiv.org/abs/{m.arxiv}).", ""]
    lines += [f"What is here: {m.summary} ([page](methods/{m.slug}.md)). Imported from"]
    lines += [f"`{m.package}`, run by [`{m.script_path}`](../{m.script_path}).", ""]
    for config in published:
        lines += [_published(config, m), ""]
    if small:
        lines += [f"### {m.title}: settings of our own", "", _small(small, m), ""]
    return "\n".join(lines)


def _published(config: Config, m: Method) -> str:
    """One configuration: its comment quoted, its command, its values."""
    lines = [f"### {m.slug}/{config.name}", "", f"[`{config.path}`](../{config.path}):", ""]
    lines += [f"> {_safe(line)}" if line else ">" for text in config.text for line in [*text.split("\n"), ""]][:-1]
    lines += ["", "```bash", config.command(m.script_path), "```"]
    noted = [setting for setting in config.settings if setting.note]
    if noted:
        rows = [f"| `{s.key}` | {_code(s.value)} | {_cell(s.note)} |" for s in noted]
        lines += ["", "<details>", "<summary>Values, and what is said of them</summary>", ""]
        lines += ["| option | here | comment |", "| --- | --- | --- |", *rows, "", "</details>"]
    return "\n".join(lines)


def _small(configs: list[Config], m: Method) -> str:
    rows = ["| configuration | what it is | command |", "| --- | --- | --- |"]
    for config in configs:
        text = _cell(" ".join(" ".join(config.text).split()))
        command = re.sub(r"\s*\\\n\s*", " ", config.command(m.script_path)).replace("\n", " ")
        rows.append(f"| [`{config.name}`](../{config.path}) | {text} | {_code(command)} |")
    return "\n".join(rows)


def _safe(text: str) -> str:
    """Text as it is: what Markdown would take for HTML is escaped, and so are formulas' dollars."""
    return re.sub(r"<(?=[A-Za-z/])", r"\\<", text).replace("$", r"\$")


def _cell(text: str) -> str:
    return _safe(text).replace("|", r"\|")


def _code(value: str) -> str:
    return f"`{value.replace('|', chr(92) + '|')}`" if value else ""
