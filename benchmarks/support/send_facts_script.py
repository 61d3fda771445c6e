# SPDX-License-Identifier: Apache-2.0
"""The parts of `train_send.py` that the fact-recall study drives in this process."""

import sys
from pathlib import Path


SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "send"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

from send_detectors import DETECTORS  # noqa: E402
from send_evaluation import Evaluations, greedy_errors  # noqa: E402
from send_setup import make_trainer  # noqa: E402
from send_tasks import Task, load_task  # noqa: E402
from train_send import parse_args  # noqa: E402


__all__ = ["DETECTORS", "Evaluations", "Task", "greedy_errors", "load_task", "make_trainer", "parse_args"]
