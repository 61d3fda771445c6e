# SPDX-License-Identifier: Apache-2.0
"""Imported by every interpreter of a smoke test: no way off this machine, no deprecated call out of `eigenhub`."""

import runpy
import warnings
from pathlib import Path


runpy.run_path(str(Path(__file__).resolve().parents[2] / "support" / "child" / "sitecustomize.py"))
warnings.filterwarnings("error", category=DeprecationWarning, module=r"eigenhub(\.|$)")
