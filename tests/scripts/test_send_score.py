# SPDX-License-Identifier: Apache-2.0
"""Scoring of a file of prompts: what is read and written, judging, going on after a kill, and what is refused."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.metrics import HallucinationScorer
from tests.common.script_tester import HEAVY
from tests.scripts.loading import load_script
from tests.scripts.tiny_neox import save_tiny_neox
from tests.support.distributed import cpu_environment
from tests.support.kills import kill_after
from tests.support.processes import ROOT, child_environment, run_python


SCRIPT = ROOT / "scripts" / "send" / "score.py"
FEW = ("--batch_size", "2", "--num_samples", "3", "--max_new_tokens", "3", "--temperature", "2", "--seed", "5")


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPT.parent))  # its siblings, as when it is run
    yield load_script(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model of the words of the facts."""
    return save_tiny_neox(tmp_path_factory.mktemp("tiny-neox"), hidden_size=8, num_layers=2)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt": f"{name} lives in :", "answers": ["Cairo", "Delhi", name][: 2 + n % 2], "truth": "Cairo"}
        for n, name in enumerate(("Ada Brook", "Bruno Hill", "Clara", "Edda Lane", "Hugo Marsh"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache")).to_list()


def test_scores_are_those_of_the_scorer_whatever_was_there_before(
    script: ModuleType, model: str, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A run that was stopped in the middle of its second batch ends with the same file."""
    arguments = ["--model", model, "--prompts", str(prompts), *FEW, "--output"]
    summary = script.main([*arguments, str(tmp_path / "whole.parquet")])
    whole = rows_of(tmp_path / "whole.parquet")
    assert [row["index"] for row in whole] == list(range(5)) and summary["prompts"] == 5
    assert json.loads((tmp_path / "whole.json").read_text()) == json.loads(json.dumps(summary))
    tokenizer = AutoTokenizer.from_pretrained(model)
    options = {"num_samples": 3, "max_new_tokens": 3, "temperature": 2.0, "seed": 5 + 2}
    scorer = HallucinationScorer(AutoModelForCausalLM.from_pretrained(model), tokenizer, **options)
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
    for row, score in zip(whole[2:4], scorer.generate_and_score(texts[2:4]), strict=True):
        assert {name: row[name] for name in score.to_dict()} == score.to_dict()

    partial = tmp_path / "again.parquet.partial.jsonl"
    header = json.dumps(
        {"settings": {**settings_of(script, arguments), "prompts_digest": digest_of(script, arguments)}}
    )
    lines = [header, *(json.dumps(row) for row in whole[:3])]
    partial.write_text("\n".join(lines) + "\n" + '{"index": 3, "pro')  # cut short
    script.main([*arguments, str(tmp_path / "again.parquet")])
    assert "resumed after 2 of 5 prompts" in capsys.readouterr().out
    assert rows_of(tmp_path / "again.parquet") == whole and not partial.exists()


def settings_of(script: ModuleType, arguments: list[str]) -> dict[str, Any]:
    args = script.parse_args([*arguments, "never.parquet"])
    return {name: value for name, value in script.as_settings(args).items() if name not in script.FREE}


def digest_of(script: ModuleType, arguments: list[str]) -> str:
    from send_score_rows import load_prompts

    return load_prompts(script.parse_args([*arguments, "never.parquet"])).digest


def test_another_run_is_not_gone_on_with(script: ModuleType, model: str, prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.parquet"
    arguments = ["--model", model, "--prompts", str(prompts), *FEW, "--output", str(output)]
    header = {**settings_of(script, arguments[:-1]), "prompts_digest": "another", "seed": 4}
    (tmp_path / "scores.parquet.partial.jsonl").write_text(json.dumps({"settings": header}) + "\n")
    with pytest.raises(
        SystemExit, match=r"begun by another run \(prompts_digest: 'another' there.*seed: 4 there, 5 here"
    ):
        script.main(arguments)
    script.main([*arguments, "--fresh"])
    assert len(rows_of(output)) == 5
    with pytest.raises(SystemExit):
        script.main(arguments)
    script.main([*arguments, "--fresh"])


def test_given_answers_are_read_and_judged(
    script: ModuleType, model: str, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "scores.parquet"
    flags = [
        "--answers_column",
        "answers",
        "--reference_column",
        "truth",
        "--batch_size",
        "2",
        "--output",
        str(output),
    ]
    summary = script.main(["--model", model, "--prompts", str(prompts), *flags])
    rows = rows_of(output)
    assert [row["samples"] for row in rows[:2]] == [["Cairo", "Delhi"], ["Cairo", "Delhi", "Bruno Hill"]]
    scorer = HallucinationScorer(AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model))
    expected = scorer.score([row["prompt"] for row in rows], [row["samples"] for row in rows])
    assert [row["eigenscore"] for row in rows] == pytest.approx([score.eigenscore for score in expected])
    assert all(row["answer"] == "Cairo" and row["right"] for row in rows)  # the first among equals
    assert summary["right"] == 5 and summary["auroc"] == {}
    assert "5 answers right, 0 not" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("judge", "answer", "references", "right"),
    [
        ("exact_match", "The Old Man.\nQ: next", ["old man"], True),
        ("exact_match", "  paris ", ["London", "Paris!"], True),
        ("exact_match", "Paris, France", ["Paris"], False),
        ("exact_match", "", ["Paris"], False),
        ("exact_match", "an apple", ["Apple"], True),
        ("exact_match", "banana", ["bnana"], False),
        ("final_number", "so #### 1,250.", ["#### 1250"], True),
        ("final_number", "none", ["#### 1250"], False),
    ],
)
def test_judges(script: ModuleType, judge: str, answer: str, references: list[str], right: bool) -> None:
    from send_score_rows import judged

    assert judged(judge, answer, references) is right


def test_detection_is_reported(script: ModuleType, capsys: pytest.CaptureFixture) -> None:
    from send_detectors import DETECTORS
    from send_score_rows import summarise

    rows = [{**dict.fromkeys(DETECTORS, value), "right": right} for value, right in ((0.1, True), (0.2, False))]
    summary = summarise(script.parse_args(["--output", "x.parquet"]), rows)
    assert summary["auroc"] == dict.fromkeys(DETECTORS, 1.0) and summary["right"] == 1
    assert re.search(r"eigenscore +1\.000 +1\.000", capsys.readouterr().out)


def test_a_mask_that_the_weights_do_not_have_is_told(script: ModuleType, tmp_path: Path) -> None:
    from send_score_rows import warn_of_mask

    from eigenhub.training.send import SenDConfig

    SenDConfig(mask_in_eval=True).save(tmp_path, dropped=[3])
    with pytest.warns(UserWarning, match="scored without its mask"):
        warn_of_mask(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": ""}, "row 1: 'prompt' must be a text of one or more letters, got ''"),
        ({"prompt": "b", "answers": ["one"]}, "row 1: answers must be a list of two or more texts, got"),
    ],
)
def test_bad_rows(script: ModuleType, tmp_path: Path, row: dict, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    rows = [{"prompt": "a", "answers": ["x", "y"]}, {"answers": ["x", "y"], **row}]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    flags = ["--model", "a/b", "--prompts", str(path), "--answers_column", "answers", "--output"]
    with pytest.raises(SystemExit, match=message):
        script.main([*flags, str(tmp_path / "x.parquet")])
    with pytest.raises(SystemExit, match="the data has no column 'text'; its columns are"):
        script.main([*flags, str(tmp_path / "x.parquet"), "--prompt_column", "text"])


def test_a_layer_that_the_model_does_not_have(script: ModuleType, model: str, prompts: Path, tmp_path: Path) -> None:
    flags = ["--model", model, "--prompts", str(prompts), "--layer", "9", "--output", str(tmp_path / "x.parquet")]
    with pytest.raises(SystemExit, match="`layer` must be one of middle, penultimate or from -3 to 2, got 9"):
        script.main(flags)


def test_embedded_prompts_are_facts_with_their_answers(script: ModuleType) -> None:
    from send_score_rows import load_prompts

    rows = load_prompts(script.parse_args(["--max_samples", "7", "--output", "x.parquet"]))
    assert len(rows.prompts) == len(rows.references) == 7 and rows.answers == []
    assert all(len(prompt.split()) == 5 for prompt in rows.prompts)


def test_help_is_light_and_errors_are_short(tmp_path: Path) -> None:
    finished = run_python(SCRIPT, "--help", folder=tmp_path, block=HEAVY)
    assert "--prompts" in finished.stdout and finished.cpu_seconds < 1
    finished = run_python(SCRIPT, "--top_k", "1", folder=tmp_path, check=False)
    assert finished.returncode == 2 and "required: --output" in finished.stderr and "Traceback" not in finished.stderr


def test_what_cannot_run_is_said(script: ModuleType, capsys: pytest.CaptureFixture) -> None:
    for flags, said in (
        ((), "the following arguments are required: --output"),
        (("--output", "scores.csv"), "--output must end in .parquet, got scores.csv"),
        (("--output", "s.parquet", "--layer", "top"), "--layer must be middle, penultimate or an integer, got 'top'"),
        (("--output", "s.parquet", "--num_samples", "1"), "--num_samples must be at least 2"),
        (("--output", "s.parquet", "--temperature", "0"), "--temperature must be above 0"),
        (("--output", "s.parquet", "--top_k", "1"), "--top_k must not be 1"),
        (("--output", "s.parquet", "--top_p", "0"), "--top_p must be above 0 and at most 1, got 0.0"),
        (("--output", "s.parquet", "--alpha", "0"), "--alpha must be positive, got 0.0"),
        (("--output", "s.parquet", "--prompt_template", "Q:"), "--prompt_template must contain {prompt}, got 'Q:'"),
        (("--output", "s.parquet", "--model", "./no"), "--model: no such folder: ./no"),
        (("--output", "s.parquet", "--prompts", "./no.jsonl"), "no such data file or folder: ./no.jsonl"),
        (("--output", "s.parquet", "--prompts", "a/b"), "--model embedded knows the words of the embedded facts only"),
        (("--output", "s.parquet", "--reference_column", "a"), "the facts bring their answers"),
    ):
        with pytest.raises(SystemExit, match="2"):
            script.parse_args([*flags])
        assert said in capsys.readouterr().err, flags


def test_choices_are_those_of_the_package(script: ModuleType) -> None:
    from eigenhub.metrics.conventions import CONVENTIONS
    from eigenhub.metrics.embeddings import TOKENS

    assert set(script.CONVENTIONS) == set(CONVENTIONS) and set(script.TOKENS) == set(TOKENS)


@pytest.mark.slow
def test_kill_and_resume(model: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"Ada {name} lives in :"} for name in ("Brook", "Hill", "Lane") * 40]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--model", model, "--prompts", str(prompts), *FEW, "--output"]
    run_python(SCRIPT, *arguments, "whole.parquet", folder=tmp_path)
    partial = tmp_path / "killed.parquet.partial.jsonl"

    def progress() -> int:
        return len(partial.read_text().splitlines()) if partial.is_file() else 0

    command = [sys.executable, str(SCRIPT), *arguments, "killed.parquet"]
    environment = child_environment(cpu_environment())
    assert kill_after(command, environment, tmp_path, progress, 10, 20), (tmp_path / "killed.log").read_text()
    said = run_python(SCRIPT, *arguments, "killed.parquet", folder=tmp_path).stdout
    assert int(re.search(r"resumed after (\d+) of 120 prompts", said)[1]) >= 18
    assert rows_of(tmp_path / "killed.parquet") == rows_of(tmp_path / "whole.parquet")
