# SPDX-License-Identifier: Apache-2.0
"""JSON lines that survive a kill and are cut back on a resume."""

from pathlib import Path

from eigenhub.training.metrics_log import MetricsLog, read_metrics


def test_rows_are_there_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.last() == {}
    log.write({"step": 1, "loss": 0.5})
    log.write({"step": 2, "loss": 0.25})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'
    assert log.last() == {"step": 2, "loss": 0.25}


def test_resume_drops_later_rows_and_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3}]
    MetricsLog(path, resume_step=2).write({"step": 3, "again": 1})
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": 1}]


def test_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    MetricsLog(path)
    assert path.read_text() == ""


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", enabled=False)
    log.write({"step": 1})
    assert log.last() == {} and not (tmp_path / "metrics.jsonl").exists()
