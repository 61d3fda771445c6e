# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from eigenhub import __version__
from eigenhub.cli import app, launch_arguments
from eigenhub.hub.datasets import dataset_slugs
from eigenhub.hub.methods_table import methods_table
from eigenhub.methods import METHODS
from tests.support.processes import run_python


COMMANDS = ("list", "info", "demo", "train", "card", "export", "space", "publish-space", "dataset")


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


@pytest.fixture
def handed_over(monkeypatch):
    """The command line that would have replaced the process."""
    calls = []

    def record(program, args):
        calls.append(args)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", record)
    return calls


def test_help_names_all_commands_and_imports_nothing_heavy():
    text = subprocess.run(
        [sys.executable, "-m", "eigenhub.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in (*COMMANDS, *(m.slug for m in METHODS if m.commands)) if name not in text] == []
    code = (
        "import sys\nfrom eigenhub.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'transformers', 'peft', 'huggingface_hub', 'yaml'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_version_and_list():
    assert invoke("--version").output.strip() == __version__
    assert [line.split()[0] for line in invoke("list").output.splitlines()] == [m.slug for m in METHODS]
    assert invoke("list", "--markdown").output.strip() == methods_table()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("command", ["info", "demo", "space", "card", "train"])
def test_an_unknown_method_is_answered_with_the_known_ones(toy, command):
    result = invoke(command, "nope")
    assert result.exit_code == 2
    assert "SLUG" in result.output
    assert "nope" in result.output
    assert "toy" in result.output


def test_info_shows_the_row(toy):
    output = invoke("info", "toy").output
    for text in ("On toys, https://arxiv.org/abs/0000.00000", "scripts/toy/train_toy.py", "spaces/toy"):
        assert text in output


def test_a_missing_resource_is_no_traceback(toy, handed_over):
    from eigenhub.hub.resources import find

    find(toy.demo).unlink()
    result = invoke("demo", "toy")
    assert result.exit_code == 2
    assert "scripts/toy/demo.py is not part of this installation" in result.output


def test_demo_and_space_hand_their_flags_over(toy, handed_over):
    assert invoke("demo", "toy", "--steps", "3", "--help").exit_code == 0
    assert invoke("space", "toy", "--port", "1").exit_code == 0
    (_, demo, *demo_flags), (_, space, *space_flags) = handed_over
    assert demo.endswith("scripts/toy/demo.py")
    assert demo_flags == ["--steps", "3", "--help"]
    assert space.endswith("spaces/toy/app.py")
    assert space_flags == ["--port", "1"]


def run_for_real(folder, *args):
    """`eigenhub ARGS` in a process of its own, with the toy's files for those of the first method."""
    code = (
        "import eigenhub.cli as cli\nfrom pathlib import Path\n"
        f"cli.find = lambda relative: Path({str(folder / 'root')!r}) / relative.replace({METHODS[0].slug!r}, 'toy')\n"
        f"cli.app({[arg.replace('toy', METHODS[0].slug) for arg in args]!r})"
    )
    return run_python(code, folder=folder, check=False)


def test_demo_is_the_process_and_its_exit_code(toy, tmp_path):
    done = run_for_real(tmp_path, "demo", "toy", "--fast")
    assert (done.returncode, done.stdout) == (7, "demo --fast\n")


def test_train_runs_the_script_and_passes_its_failure_on(toy, tmp_path):
    done = run_for_real(tmp_path, "train", "--cpu", "toy", "--lr", "1e-3")
    assert done.stdout == "demo --lr 1e-3\n", done
    assert done.returncode != 0


def test_space_says_what_to_install(toy, handed_over, monkeypatch):
    monkeypatch.setattr("eigenhub.cli.find_spec", lambda name: None)
    result = invoke("space", "toy")
    assert result.exit_code == 2
    assert "pip install 'eigenhub[spaces]'" in result.output
    assert handed_over == []


def test_train_is_accelerate_launch_with_the_slug_for_the_script(toy, handed_over):
    assert invoke("train", "--num_processes", "2", "toy", "--lr", "1e-3", "--help").exit_code == 0
    ((_, *args),) = handed_over
    script = args.pop(4)
    assert script.endswith("scripts/toy/train_toy.py")
    assert args == ["-m", "accelerate.commands.launch", "--num_processes", "2", "--lr", "1e-3", "--help"]


def test_train_takes_the_first_slug_only(toy):
    assert launch_arguments(["toy", "--method", "toy"])[3:] == ["--method", "toy"]


def test_train_without_arguments_says_so(toy):
    result = invoke("train")
    assert result.exit_code == 2
    assert "no method in 'no arguments'; allowed: toy" in result.output


def test_card_prints_or_writes(toy, saved_toy):
    assert "model-index" in invoke("card", "toy").output
    written = invoke("card", saved_toy, "--repo-id", "me/toy", "--base-model", "org/other")
    assert written.exit_code == 0
    text = (saved_toy / "README.md").read_text()
    assert "# me/toy" in text
    assert "base_model: org/other" in text


def test_card_protects_a_readme(saved_toy):
    (saved_toy / "README.md").write_text("mine")
    refused = invoke("card", saved_toy)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert invoke("card", saved_toy, "--overwrite").exit_code == 0


def test_card_of_a_foreign_folder_is_no_traceback(toy, tmp_path):
    result = invoke("card", tmp_path)
    assert result.exit_code == 2
    assert "holds none of adapter_config.json" in result.output


def test_export_runs_the_methods_exporter(saved_toy, tmp_path):
    assert invoke("export", saved_toy, tmp_path / "a").output == f"path: {tmp_path / 'a'}\nrank: 8\n"
    assert invoke("export", saved_toy, tmp_path / "b", "--rank", 2).exit_code == 0
    assert (tmp_path / "a" / "rank.txt").read_text() == "my-toy None"
    assert (tmp_path / "b" / "rank.txt").read_text() == "my-toy 2"


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--rank", "many"], "--rank"), (["--rank", "0"], "`rank` must be positive, got 0"), (["--wide"], "--wide")],
)
def test_export_names_bad_options(saved_toy, tmp_path, flags, message):
    result = invoke("export", saved_toy, tmp_path / "out", *flags)
    assert result.exit_code == 2
    assert message in result.output


def test_export_of_a_method_without_exporter(saved_toy, toy, tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr("eigenhub.hub.saved.METHODS", (replace(toy, exporter=None),))
    result = invoke("export", saved_toy, tmp_path / "out")
    assert result.exit_code == 2
    assert "has no export" in result.output


def test_a_methods_own_commands_load_when_entered(toy):
    assert "Commands of Toy only" in invoke("--help").output
    assert "Spin the toy" in invoke("toy", "--help").output
    assert invoke("toy", "spin", "3").output == "spun 3 times\n"
    assert invoke("toy", "fly").exit_code == 2


def test_datasets_are_listed_and_written(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("eigenhub.hub.dataset_cards.save_dataset", lambda *args: calls.append(args) or args[1])
    monkeypatch.setattr(
        "eigenhub.hub.dataset_cards.push_dataset", lambda *args, **options: calls.append((*args, options)) or "url"
    )
    assert {line.split()[0] for line in invoke("dataset").output.splitlines()} == set(dataset_slugs())
    assert invoke("dataset", "digits", str(tmp_path)).output.strip() == str(tmp_path)
    assert invoke("dataset", "digits", "--push", "org/digits", "--private").output.strip() == "url"
    assert calls == [("digits", tmp_path), ("digits", "org/digits", {"private": True})]


@pytest.mark.parametrize("args", [("digits",), ("digits", "here", "--push", "org/digits")])
def test_a_dataset_goes_to_one_place(args):
    result = invoke("dataset", *args)
    assert result.exit_code == 2
    assert "either DIR or --push REPO_ID" in result.output


def test_an_unknown_dataset_is_answered_with_the_known_ones(tmp_path):
    result = invoke("dataset", "nope", str(tmp_path))
    assert result.exit_code == 2
    assert "glyphs" in result.output


@pytest.mark.parametrize("slug", ["sorsa", "gallery"])
def test_publish_space_pushes_the_folder(slug, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "eigenhub.hub.publish.publish_folder", lambda *args, **options: calls.append((*args, options)) or "url"
    )
    assert invoke("publish-space", slug, "org/name").output.strip() == "url"
    ((folder, repo_id, kind, options),) = calls
    assert (folder.name, repo_id, kind, options["space_sdk"]) == (slug, "org/name", "space", "gradio")


def test_publish_space_knows_no_other_space():
    result = invoke("publish-space", "nope", "org/name")
    assert result.exit_code == 2
    assert "sorsa" in result.output
