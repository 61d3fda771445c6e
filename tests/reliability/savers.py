# SPDX-License-Identifier: Apache-2.0
"""The table of savers: each writes a first or a second version into a folder, and reads which one is there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from torch import nn

from eigenhub.federated import DPConfig, FedSVDConfig, PrivacyLedger
from eigenhub.federated.round_files import latest_round, write_round
from eigenhub.files import read_tensors
from eigenhub.hub.cards import write_card
from eigenhub.hub.eval_results import write_eval_results
from eigenhub.hub.results import load_results, parse_results, save_results
from eigenhub.linalg.ptd_solutions import load_solution, save_solutions
from eigenhub.models.bt2.item_vectors import ItemVectors
from eigenhub.models.s4d import S4DConfig
from eigenhub.models.stylegan2 import StyleGAN2Networks, load_nvidia, load_rosinality
from eigenhub.models.stylegan2.direction_files import LabelledDirections, load_directions, save_directions
from eigenhub.models.stylegan2.directions import Directions
from eigenhub.models.stylegan2.nvidia_format import save_nvidia
from eigenhub.models.stylegan2.rosinality_format import save_rosinality
from eigenhub.optim import OptimizerConfig
from eigenhub.training.checkpoint import Checkpoints
from eigenhub.training.checkpoint_files import latest_checkpoint
from eigenhub.training.metrics_log import MetricsLog, read_metrics
from eigenhub.training.send.config import SenDConfig
from eigenhub.training.send.state_files import read_state, write_state
from eigenhub.tuners.sorsa import SorsaConfig
from eigenhub.tuners.sorsa.export import WEIGHTS_NAME, Change, write_lora
from eigenhub.tuners.sorsa.factors import Factors
from eigenhub.tuners.sorsa.svd_cache import CACHE_NAME, _write
from tests.models.stylegan2.tiny import generator
from tests.reliability.json_loaders import EXAMPLE
from tests.reliability.tensor_loaders import PROBLEM


@dataclass(frozen=True)
class Saver:
    """
    One saver.

    Args:
        name (`str`): of the case.
        save (`Callable[[Path, int], Any]`): writes version 1 or 2 into a folder.
        load (`Callable[[Path], Any]`): tells which version is there, or raises.
        pair (`bool`, *optional*, defaults to `False`): whether it writes two files, of which a kill between the two renames
            leaves one of each; that must then be refused.
    """

    name: str
    save: Callable[[Path, int], Any]
    load: Callable[[Path], Any]
    pair: bool = False

    def __str__(self) -> str:
        return self.name


def save_checkpoint(folder: Path, version: int) -> None:
    """A checkpoint after the same step, whatever the version."""
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, version)
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(model)
    checkpoints = Checkpoints(accelerator, folder, {}, keep=1)
    checkpoints.save(3)
    checkpoints._lock.release()  # as the end of a process does


def loaded_checkpoint(folder: Path) -> float:
    newest = latest_checkpoint(folder)
    assert newest is not None, "no checkpoint is left"
    model = nn.Linear(2, 2)
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(model)
    checkpoints = Checkpoints(accelerator, folder, {}, keep=1)
    checkpoints.restore(newest)
    checkpoints._lock.release()
    return model.weight[0, 0].item()


def save_round(folder: Path, version: int) -> None:
    write_round(folder, 3, lambda place: (place / "state").write_text(str(version)) and None, keep=1)


def loaded_round(folder: Path) -> int:
    newest = latest_round(folder)
    assert newest is not None, "no round is left"
    return int((newest / "state").read_text())


def save_ledger(folder: Path, version: int) -> None:
    ledger = PrivacyLedger(DPConfig(target_epsilon=None, target_delta=1e-5, noise_multiplier=1.0))
    ledger.enroll("clinic", num_examples=1000, steps_per_round=version, batch_size=10, max_participations=3)
    ledger._reported[()] = 0.0
    ledger.save(folder)


def save_metrics(folder: Path, version: int) -> None:
    """The second version resumes after step 1 and cuts the rest off."""
    log = MetricsLog(folder / "metrics.jsonl", version - 1)
    log.write({"step": version})


def loaded_metrics(folder: Path) -> int:
    steps = [row["step"] for row in read_metrics(folder / "metrics.jsonl")]
    assert steps in ([], [1], [1, 2]), steps
    return max(steps, default=0) or 1  # begun and without a row


def save_own_directions(folder: Path, version: int) -> None:
    directions = Directions(torch.full((4, 2), float(version)), torch.ones(2))
    save_directions(folder, {"b8.conv0": LabelledDirections(directions, labels={0: str(version)})})


def loaded_directions(folder: Path) -> int:
    found = load_directions(folder)["b8.conv0"]
    assert found.directions.vectors[0, 0].item() == int(found.labels[0])
    return int(found.labels[0])


def save_send(folder: Path, version: int) -> None:
    tensors = {"checkpoints": torch.tensor(version), "dropped": torch.tensor([version])}
    write_state(folder, SenDConfig(), tensors, dropped=[version], refreshes=[])


def networks(version: int) -> StyleGAN2Networks:
    model = generator(img_resolution=8, channel_max=2, z_dim=4, w_dim=4)
    model.mapping.w_avg.fill_(version)
    return StyleGAN2Networks(generator_ema=model)


def save_card(folder: Path, version: int) -> None:
    if not (folder / "config.json").exists():  # transformers writes it in place, where another process may read half
        S4DConfig(architectures=["S4DForSequenceClassification"]).save_pretrained(folder)
    write_card(folder, repo_id=f"me/version-{version}")


def loaded_card(folder: Path) -> int:
    text = (folder / "README.md").read_text()
    (version,) = [number for number in (1, 2) if f"me/version-{number}" in text]
    assert text.endswith(CARDS.setdefault(version, text))
    return version


CARDS: dict[int, str] = {}


def save_results_file(folder: Path, version: int) -> None:
    results = parse_results(yaml.safe_load(EXAMPLE))
    results.findings = [str(version)]
    save_results(results, folder / "results.yaml")


def save_lora(folder: Path, version: int) -> None:
    trained = Factors(torch.ones(4, 1), torch.full((1,), float(version)), torch.ones(1, 5))
    initial = Factors(torch.ones(4, 1), torch.zeros(1), torch.ones(1, 5))
    write_lora({"q": Change(trained, initial, 1.0)}, SorsaConfig(r=1, target_modules=["q"]), {}, folder)


def save_eval_results(folder: Path, version: int) -> None:
    results = parse_results(yaml.safe_load(EXAMPLE))
    for figure in results.measured:
        figure.value, figure.method, figure.dataset.task_id = float(version), results.method, "upright"
    write_eval_results(results, folder)


def loaded_eval_results(folder: Path) -> int:
    (path,) = (folder / ".eval_results").glob("*.yaml")
    (value,) = {entry["value"] for entry in yaml.safe_load(path.read_text())}
    return int(value)


SAVERS = [
    Saver(
        "LoRA export",
        save_lora,
        lambda folder: int(read_tensors(folder / WEIGHTS_NAME)["base_model.model.q.lora_B.weight"][0, 0]),
    ),
    Saver(".eval_results", save_eval_results, loaded_eval_results),
    Saver(
        "OptimizerConfig",
        lambda folder, version: OptimizerConfig("trion", {"rank": version}).save_pretrained(folder),
        lambda folder: OptimizerConfig.from_pretrained(folder).options["rank"],
    ),
    Saver(
        "FedSVDConfig",
        lambda folder, version: FedSVDConfig(seed=version).save_pretrained(folder),
        lambda folder: FedSVDConfig.from_pretrained(folder).seed,
    ),
    Saver("PrivacyLedger", save_ledger, lambda folder: PrivacyLedger.load(folder).accounts["clinic"].steps_per_round),
    Saver("federated round", save_round, loaded_round),
    Saver("Checkpoints", save_checkpoint, loaded_checkpoint),
    Saver("metrics log", save_metrics, loaded_metrics),
    Saver("results", save_results_file, lambda folder: int(load_results(folder / "results.yaml").findings[0])),
    Saver("card", save_card, loaded_card),
    Saver(
        "perturbations",
        lambda folder, version: save_solutions(folder / "a", {PROBLEM: (version * torch.eye(3), {})}),
        lambda folder: load_solution(folder / "a", PROBLEM)[0, 0].item(),
    ),
    Saver(
        "ItemVectors",
        lambda folder, version: ItemVectors(("a",), torch.full((1, 2), float(version)), "model").save(folder / "a"),
        lambda folder: ItemVectors.load(folder / "a").vectors[0, 0].item(),
    ),
    Saver(
        "SVD cache",
        lambda folder, version: _write({"x": torch.full((2,), float(version))}, {}, folder),
        lambda folder: read_tensors(folder / CACHE_NAME)["x"][0].item(),
    ),
    Saver("directions", save_own_directions, loaded_directions, pair=True),
    Saver(
        "SenD state",
        save_send,
        lambda folder: int(read_state(folder, SenDConfig())[0]["checkpoints"]),
        pair=True,
    ),
    Saver(
        "NVIDIA file",
        lambda folder, version: save_nvidia(networks(version), folder / "a.pt"),
        lambda folder: load_nvidia(folder / "a.pt").best_generator.mapping.w_avg[0].item(),
    ),
    Saver(
        "rosinality file",
        lambda folder, version: save_rosinality(networks(version), folder / "a.pt"),
        lambda folder: load_rosinality(folder / "a.pt").best_generator.mapping.w_avg[0].item(),
    ),
]
