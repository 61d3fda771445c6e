# SPDX-License-Identifier: Apache-2.0
"""Serves the Space in the folder given as argument, from inside that folder as on the Hub, until stdin closes.

Prints two JSON lines: how the import of the app file went, then the address of the running app.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

import gradio as gr


folder, app_file = sys.argv[1:]
os.chdir(folder)
sys.path.insert(0, folder)
log = Path(os.environ["TEST_OUTSIDE_LOG"])

begin = time.process_time()
app = import_module(Path(app_file).stem)
demo = getattr(app, "demo", None)
launched = bool(getattr(demo, "is_running", False))
report = {
    "demo": f"{type(demo).__module__}.{type(demo).__name__}",
    "builds": isinstance(demo, gr.Blocks),
    "launched": launched,
    "outside": log.read_text().splitlines() if log.is_file() else [],
    "cpu_seconds": time.process_time() - begin,
}
print(json.dumps(report), flush=True)
if not report["builds"] or launched:
    sys.exit(0)

_, url, _ = demo.launch(server_name="127.0.0.1", share=False, prevent_thread_lock=True, quiet=True)
print(json.dumps({"url": url}), flush=True)
sys.stdin.read()
demo.close()
