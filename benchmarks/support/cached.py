# SPDX-License-Identifier: Apache-2.0
"""Results of single runs as files, so that a long grid can be stopped and continued."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def cached(folder: Path, task: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a task: from its file, or computed now and written there.

    Args:
        folder (`Path`): where the files are.
        task (`Mapping`): everything the result depends on, as JSON.
        compute (`Callable`): makes the result, as JSON.
    """
    name = hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text())["result"]
    result = compute()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps({"task": task, "result": result}, indent=2) + "\n")
    os.replace(unfinished, path)
    return result
