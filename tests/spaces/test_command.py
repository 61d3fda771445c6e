# SPDX-License-Identifier: Apache-2.0
"""`eigenhub space`: a Space, or without a name the gallery."""

import pytest
from typer.testing import CliRunner

from eigenhub.cli import app
from eigenhub.methods import get_method


@pytest.mark.parametrize(
    ("args", "program", "flags"),
    [
        ([], "spaces/gallery/app.py", []),
        (["--port", "7", "--open"], "spaces/gallery/app.py", ["--port", "7", "--open"]),
        (["sorsa"], "spaces/sorsa/app.py", []),
        (["sorsa", "--port", "7", "--help"], "spaces/sorsa/app.py", ["--port", "7", "--help"]),
    ],
)
def test_flags_go_to_the_space_or_the_gallery(monkeypatch, args, program, flags):
    calls = []
    monkeypatch.setattr("eigenhub.cli.run_python", lambda *called: calls.append(called))
    assert CliRunner().invoke(app, ["space", *args]).exit_code == 0
    ((started, *given),) = calls
    assert started.endswith(program) and given == flags


def test_info_can_be_pasted():
    """The import statement, long as it may be, is code."""
    output = CliRunner().invoke(app, ["info", "bt2"]).output
    statement = output.partition("import       ")[2].partition("script_path")[0]
    assert len(max(output.splitlines(), key=len)) < 130
    code = "\n".join(line.removeprefix(" " * 13) for line in statement.splitlines())
    compile(code, "info", "exec")
    assert all(name in code for name in get_method("bt2").public_names)
