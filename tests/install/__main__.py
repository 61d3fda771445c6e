# SPDX-License-Identifier: Apache-2.0
"""Builds the package, looks into it, installs it into empty environments and uses it there, offline."""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.house.sources import CODE_FOLDERS, python_files
from tests.install import artifacts
from tests.install.environment import Environment
from tests.install.oldest import run_tests
from tests.install.project import ROOT, extras
from tests.install.report import Report
from tests.install.smoke_run import smoke


REQUIREMENTS = ROOT / "requirements"
CORE_PROGRAMS = ("core_import", "core_commands", "core_artefacts", "core_without_extras")
ON_DEMAND = ("fid",)  # pulls torchvision, which only works beside the build of torch that it was made for
COMPILE = """
import pathlib, sys
for name in sys.argv[1:]:
    compile(pathlib.Path(name).read_text("utf-8"), name, "exec")
print(len(sys.argv) - 1, "files, Python", sys.version.split()[0])
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.install", description=__doc__)
    parser.add_argument(
        "--extra",
        action="append",
        choices=["none", *extras()],
        help=f"may be given several times; default: all of them but {', '.join(ON_DEMAND)}",
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter to install for; default: this one")
    parser.add_argument(
        "--oldest", action="store_true", help="with the oldest versions allowed; runs tests on them too"
    )
    return parser.parse_args()


def compile_all(environment: Environment) -> str:
    """Every Python file of the repository by the interpreter of the environment; a warning about syntax is an error."""
    files = python_files(*CODE_FOLDERS)
    return environment.run(environment.python, "-W", "error", "-c", COMPILE, *files).stdout


def build_and_check(tools: Environment, out: Path) -> str:
    """The distributions in `out`; what is wrong with them is an `AssertionError`."""
    tools.install("build", "twine")
    sdist, wheel = artifacts.build(tools, out)
    found = artifacts.problems(tools, sdist, wheel, out / "again")
    if found:
        raise AssertionError("\n".join(found))
    return f"{wheel.name} {wheel.stat().st_size / 1e6:.1f} MB, sdist {sdist.stat().st_size / 1e6:.1f} MB"


def install_core(core: Environment, wheel: Path, constraints: Path) -> str:
    """torch first and alone, as the documentation says; then the wheel."""
    core.install("torch", constraints=constraints)
    torch_size = core.size()
    core.install(wheel, constraints=constraints)
    packages = core.packages()
    return (
        f"{len(packages)} packages, {core.size() / 1e6:.0f} MB of which {torch_size / 1e6:.0f} MB with torch "
        f"{packages['torch']}; transformers {packages['transformers']}, peft {packages['peft']}"
    )


def prove_extra(core: Environment, name: str, wheel: Path, constraints: Path) -> str:
    """A copy of the core environment with one extra more, its program, and away with it."""
    if name == "flower":
        constraints = REQUIREMENTS / "constraints-flower.txt"
    environment = core.clone(core.folder.parent / name)
    try:
        environment.install(f"{wheel}[{name}]", constraints=constraints)
        return smoke(environment, f"with_{name}")
    finally:
        environment.delete()


def main() -> None:
    """Exit code 1 if any step failed."""
    args = parse_args()
    wanted = [name for name in extras() if name in (args.extra or set(extras()) - set(ON_DEMAND))]
    constraints = REQUIREMENTS / ("constraints-oldest.txt" if args.oldest else "constraints.txt")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="eigenhub-install-") as place:
        work = Path(place)
        tools = Environment.create(work / "tools", args.python)
        report.step("compile", partial(compile_all, tools))
        if not report.step("build", partial(build_and_check, tools, work / "dist")):
            sys.exit(1)
        (wheel,) = (work / "dist").glob("*.whl")
        core = Environment.create(work / "core", args.python)
        if not report.step("install core", partial(install_core, core, wheel, constraints)):
            sys.exit(1)
        for program in CORE_PROGRAMS:
            report.step(program.replace("_", " ", 1), partial(smoke, core, program))
        for name in wanted:
            report.step(f"extra {name}", partial(prove_extra, core, name, wheel, constraints))
        if args.oldest:
            report.step("tests on the oldest", partial(run_tests, core, wheel, constraints))
    sys.exit(f"failed: {', '.join(report.failed)}" if report.failed else 0)


if __name__ == "__main__":
    main()
