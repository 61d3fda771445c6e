# SPDX-License-Identifier: Apache-2.0
"""Extra `quality`: ruff runs, and mypy sees the types of the installed package."""

import subprocess
import sys
from pathlib import Path


Path("user.py").write_text("""from eigenhub import get_method

slug: str = get_method("sorsa").slug
wrong: int = get_method("sorsa").slug
""")
ruff = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "user.py"], capture_output=True, text=True)
assert ruff.returncode == 0, ruff.stdout + ruff.stderr
mypy = [sys.executable, "-m", "mypy", "--cache-dir", "/dev/null", "--follow-imports", "silent", "user.py"]
found = subprocess.run(mypy, capture_output=True, text=True).stdout
assert found.count("error:") == 1 and "user.py:4" in found, found
print("ruff; mypy finds the one wrong line of a user's file")
