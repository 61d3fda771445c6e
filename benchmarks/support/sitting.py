# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in one sitting: its command line, its record, and the comparison with the stored one."""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from support.machine import machine, versions
from support.pages import SHORT_TEXT, render_page, report
from support.record import Record, read, store, stored, write
from support.runner import run_all
from support.summary import regressions


DOC = """Run all benchmarks in one sitting, each in a process of its own, and compare with the stored sitting.

    python benchmarks                   # small sizes, fifteen to twenty minutes on two cores
    python benchmarks --store           # the same; becomes the stored short sitting
    python benchmarks --full            # everything, hours; becomes the stored results
    python benchmarks --only dct sorsa  # these alone
    python benchmarks --page            # the pages alone, from the stored results

After an interruption the same command goes on where it was. Exit code 1 if a benchmark failed.
"""
FULL_TEXT = "Everything, as it is stored."


@dataclass(frozen=True)
class Places:
    """Where programs, stored results and sittings are.

    Args:
        programs (`Path`): folder of the benchmarks.
        sittings (`Path`): folder of unfinished and finished sittings.
    """

    programs: Path = Path(__file__).parent.parent
    sittings: Path = Path("runs/bench/sittings")

    @property
    def results(self) -> Path:
        """Folder of the stored results."""
        return self.programs / "results"

    def files(self) -> list[Path]:
        """All benchmarks."""
        return sorted(path for path in self.programs.glob("*.py") if not path.stem.startswith("_"))


def parse(argv: Sequence[str] | None, names: list[str]) -> argparse.Namespace:
    """The arguments of a sitting."""
    parser = argparse.ArgumentParser(
        "python benchmarks", description=DOC, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", dest="mode", action="store_const", const="short", help="small sizes (the default)")
    length.add_argument(
        "--full", dest="mode", action="store_const", const="full", help="everything; stores its results"
    )
    parser.set_defaults(mode="short")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--store", action="store_true", help="make a short sitting the stored one")
    parser.add_argument("--fresh", action="store_true", help="begin anew even if the last sitting was interrupted")
    parser.add_argument("--page", action="store_true", help="make the pages from the stored results, and nothing else")
    parser.add_argument(
        "--fail-on-regression",
        action="store_true",
        help="exit code 1 if a ratio is worse by more than 15 per cent and the spreads lie apart",
    )
    return parser.parse_args(argv)


def begin(folder: Path, mode: str, reference: Record | None, fresh: bool) -> Record:
    """The record of an interrupted sitting on this machine with these versions, else a new one."""
    found, absent = versions()
    now: dict[str, Any] = {"mode": mode, "machine": machine(), "versions": found, "absent": absent}
    old = read(folder / "sitting.json")
    if old is not None and not old["finished"] and not fresh:
        if {name: old[name] for name in now} == now:
            print(f"going on with the sitting of {old['begun']}; --fresh begins anew")
            return old
        print(f"the sitting of {old['begun']} was interrupted, but machine or versions are others now: beginning anew")
    shutil.rmtree(folder, ignore_errors=True)
    begun = datetime.now().isoformat(timespec="seconds")
    return {**now, "begun": begun, "finished": False, "against": _origin(reference), "benchmarks": {}}


def _origin(reference: Record | None) -> Record | None:
    """What is said of the run that a sitting is compared with."""
    if reference is None:
        return None
    dates = {
        s["environment"]["date"] for e in reference["benchmarks"].values() for s in e.get("sections", {}).values()
    }
    date = " to ".join(sorted({min(dates), max(dates)})) if dates else "unknown date"
    return {"date": date, "machine": reference["machine"], "versions": reference["versions"]}


def main(argv: Sequence[str] | None = None, places: Places | None = None) -> int:
    """Run a sitting; returns the exit code.

    Args:
        argv (`Sequence[str]`, *optional*): arguments, by default those of the process.
        places (`Places`, *optional*): the folders.
    """
    places = places or Places()
    files = {path.stem: path for path in places.files()}
    args = parse(argv, list(files))
    if args.page:
        render_page(places.results)
        return 0
    chosen = [path for name, path in files.items() if args.only is None or name in args.only]
    folder = places.sittings / "-".join([args.mode, *(path.stem for path in chosen if args.only)])
    reference = stored(places.results, args.mode)
    record = begin(folder, args.mode, reference, args.fresh)
    print(_announced(chosen, reference))
    try:
        run_all(chosen, record, reference, folder)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it was")
        return 130
    return finish(record, folder, places, args)


def _announced(chosen: list[Path], reference: Record | None) -> str:
    entries = (reference or {}).get("benchmarks", {})
    last = [entries[path.stem].get("seconds") for path in chosen if path.stem in entries]
    known = [seconds for seconds in last if seconds]
    return f"{len(chosen)} benchmarks" + (
        f", {len(known)} of them took {sum(known) / 60:.1f} min last time" if known else ""
    )


def finish(record: Record, folder: Path, places: Places, args: argparse.Namespace) -> int:
    """Print and write the report of a sitting, store it where asked; returns the exit code."""
    record["finished"] = True
    write(folder / "sitting.json", record)
    seconds = sum(entry["seconds"] for entry in record["benchmarks"].values())
    text = report(record, f"The {args.mode} sitting", SHORT_TEXT if args.mode == "short" else FULL_TEXT)
    (folder / "report.md").write_text(text)
    print(
        f"\n{text}\n{seconds / 60:.1f} min; all of it in {folder / 'sitting.json'}, this page in {folder / 'report.md'}"
    )
    if args.store or args.mode == "full":
        store(places.results, record)
        render_page(places.results)
    failed = [name for name, entry in record["benchmarks"].items() if entry["status"] == "failed"]
    worse = regressions(record)
    if worse:
        print(f"{len(worse)} regressions, the largest {worse[0]['share']:+.0%}: {worse[0]['what']}")
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return int(bool(failed) or (args.fail_on_regression and bool(worse)))
