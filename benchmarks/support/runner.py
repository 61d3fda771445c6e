# SPDX-License-Identifier: Apache-2.0
"""One benchmark after the other, each in a process of its own; what is finished is on the disk at any time."""

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from support.arguments import CACHE_VARIABLE
from support.comparison import compare
from support.machine import OPTIONAL
from support.record import Record, published, read_sections, write
from support.report import RESULTS_VARIABLE


TAIL = 15  # lines of the log that a failure shows


def run_program(program: Path, mode: str, folder: Path) -> Record:
    """Run one benchmark; its state, seconds and reports.

    Args:
        program (`Path`): its file.
        mode (`str`): `"short"` or `"full"`.
        folder (`Path`): of the sitting; takes the log, the reports and the finished runs of studies.
    """
    reports, log = folder / "reports" / program.stem, folder / "logs" / f"{program.stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {RESULTS_VARIABLE: str(reports), CACHE_VARIABLE: str(folder / "cache"), "TQDM_MININTERVAL": "5"}
    begin, used = time.perf_counter(), _processor_seconds()
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, str(program), f"--{mode}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
    entry = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(_processor_seconds() - used, 1),
    }
    sections = read_sections(reports)
    status, reason = _outcome(done.returncode, bool(sections), log)
    if status != "ok":
        return {"status": status, "reason": reason, **entry, "log": str(log)}
    files = [str(reports / f"{slug}.json") for slug in sections]
    short = {slug: published(section) for slug, section in sections.items()}
    return {"status": status, **entry, "sections": short, "files": files}


def _processor_seconds() -> float:
    """What all processes that have ended used so far: on a busy machine it says what an idle one would take."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _outcome(code: int, has_results: bool, log: Path) -> tuple[str, str]:
    """Whether a benchmark is `ok`, `skipped` or `failed`, and why."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or [""]
    if code == 0 and has_results:
        return "ok", ""
    if code == 0:
        return ("skipped", lines[-1].removeprefix("skipped: ")) if "skipped" in lines[-1] else ("failed", "no results")
    missing = re.match(r"ModuleNotFoundError: No module named '(\w+)", lines[-1])
    if missing and missing[1] in OPTIONAL:
        return "skipped", f"{OPTIONAL[missing[1]]} is not installed"
    return "failed", f"exit code {code}: {lines[-1]}"


def run_all(
    programs: list[Path], record: Record, reference: Record | None, folder: Path, say: Callable[[str], None] = print
) -> None:
    """Run the benchmarks that the record has not yet, and complete the record after each.

    Args:
        programs (`list[Path]`): all files of the sitting, in order.
        record (`dict`): of the sitting; benchmarks are added to it.
        reference (`dict`, *optional*): the stored sitting.
        folder (`Path`): of the sitting.
        say (`Callable`, *optional*): prints a line.
    """
    for number, program in enumerate(programs, 1):
        name = program.stem
        place = f"[{number}/{len(programs)}] {name}"
        if name in record["benchmarks"]:
            say(f"{place}: {record['benchmarks'][name]['status']} already")
            continue
        before = (reference or {}).get("benchmarks", {}).get(name, {})
        say(f"{place} ..." + (f" {before['seconds']:.0f} s last time" if before.get("seconds") else ""))
        entry = run_program(program, record["mode"], folder)
        if entry["status"] == "ok" and "sections" in before:
            entry["comparison"] = _compared(before["sections"], entry["sections"])
        record["benchmarks"][name] = entry
        write(folder / "sitting.json", record)
        say(f"    {_told(entry)}")


def _compared(old: dict[str, Any], new: dict[str, Any]) -> Record:
    found = compare(old, new)
    changes = [{**asdict(change), "verdict": change.verdict} for change in found.large]
    return {
        "compared": len(found.changes),
        "worst": found.worst,
        "changes": changes,
        "gone": found.gone,
        "new": found.added,
    }


def _told(entry: Record) -> str:
    if entry["status"] == "ok":
        rows = sum(len(section["rows"]) for section in entry["sections"].values())
        return f"{rows} rows in {entry['seconds']:.0f} s ({entry['processor_seconds']:.0f} s of processors)"
    if entry["status"] == "skipped":
        return f"skipped: {entry['reason']}"
    tail = Path(entry["log"]).read_text(errors="replace").splitlines()[-TAIL:]
    return "\n    ".join(
        [f"FAILED after {entry['seconds']:.0f} s, {entry['reason']}; the end of {entry['log']}:", *tail]
    )
