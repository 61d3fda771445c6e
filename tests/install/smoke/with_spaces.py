# SPDX-License-Identifier: Apache-2.0
"""Extra `spaces`: the app of every Space is built, and one is served."""

import subprocess
import sys

from eigenhub import METHODS
from eigenhub.hub.resources import find


BUILD = """
import importlib, os, sys
os.chdir(sys.argv[1])
sys.path.insert(0, sys.argv[1])
import gradio
demo = importlib.import_module("app").demo
assert isinstance(demo, gradio.Blocks)
"""
SERVE = """
import urllib.request
_, url, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
assert urllib.request.urlopen(url).status == 200
demo.close()
"""

built, waiting = [], []
for i, method in enumerate(METHODS):
    code = BUILD + SERVE if i == 0 else BUILD
    done = subprocess.run([sys.executable, "-c", code, find(method.space)], capture_output=True, text=True)
    if done.returncode and "pip install 'eigenhub[" in done.stderr:
        waiting.append(method.slug)  # its requirements.txt asks for one more extra
    else:
        assert done.returncode == 0, f"{method.slug}\n{done.stderr}"
        built.append(method.slug)
assert METHODS[0].slug in built
print(f"built: {', '.join(built)}; wait for an extra: {', '.join(waiting) or 'none'}; served: {METHODS[0].slug}")
