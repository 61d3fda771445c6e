# SPDX-License-Identifier: Apache-2.0
"""The python blocks of a card on the Hub, run as a reader would paste them."""

import io
import traceback
from contextlib import chdir, redirect_stdout
from pathlib import Path

from huggingface_hub import hf_hub_download

from tests.house.doc_code import blocks_of


def run_card(repo: str, kind: str = "model") -> dict[str, str | None]:
    """Runs the blocks from top to bottom in a folder of their own.

    Args:
        repo (`str`): repository.
        kind (`str`, *optional*, defaults to `"model"`): `"model"` or `"dataset"`.

    Returns:
        `dict`: what was `printed`, and the `error` or `None`.
    """
    text = Path(hf_hub_download(repo, "README.md", repo_type=kind)).read_text(encoding="utf-8")
    blocks = [block for block in blocks_of(text) if block.language == "python" and block.skip is None]
    names, printed = {"__name__": "__main__"}, io.StringIO()
    folder = Path(f"{kind}-{repo.replace('/', '-')}")
    folder.mkdir(exist_ok=True)
    try:
        if not blocks:
            raise ValueError(f"the card of {repo} has no python block")
        with chdir(folder), redirect_stdout(printed):
            for block in blocks:
                exec(compile("\n" * block.line + block.code, f"{repo}/README.md", "exec"), names)
    except Exception:
        return {"printed": printed.getvalue(), "error": traceback.format_exc()}
    return {"printed": printed.getvalue(), "error": None}
