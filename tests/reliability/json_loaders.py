# SPDX-License-Identifier: Apache-2.0
"""Loaders of JSON, JSON lines, YAML and tables."""

import argparse
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eigenhub.embedded.sentences import load_sentences
from eigenhub.federated import DPConfig, FedSVDConfig, PrivacyLedger
from eigenhub.federated.server import ROUND_FILE
from eigenhub.files import read_json
from eigenhub.hub import results
from eigenhub.hub.results import load_results
from eigenhub.hub.saved import read_saved
from eigenhub.models.stylegan2.direction_files import LABELS_NAME, load_directions
from eigenhub.optim import OptimizerConfig
from eigenhub.training.arguments import read_settings
from eigenhub.training.checkpoint_files import MANIFEST, read_manifest, write_manifest
from eigenhub.training.metrics_log import MetricsLog, read_metrics
from eigenhub.training.send.config import CONFIG_NAME, SenDConfig
from tests.federated.test_server import make
from tests.models.bt2.index_cases import NEW
from tests.reliability.loader import Loader
from tests.reliability.tensor_loaders import a_server, some_directions


#: The one in the docstring.
EXAMPLE = str(results.__doc__).split("```yaml\n")[1].split("```")[0]


def text(name: str, content: str) -> Callable[[Path], Path]:
    """Writes a file of a given content."""

    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def a_ledger(folder: Path) -> Path:
    ledger = PrivacyLedger(DPConfig(target_epsilon=None, target_delta=1e-5, noise_multiplier=1.0))
    ledger.enroll("clinic", num_examples=1000, steps_per_round=2, batch_size=10, max_participations=3)
    ledger._reported[()] = 0.0  # so that nothing has to be accounted for
    return ledger.save(folder)


def a_manifest(folder: Path) -> Path:
    (folder / "model.bin").write_bytes(b"weights")
    write_manifest(folder, 3, {"lr": 0.1})
    return folder / MANIFEST


def a_complete_checkpoint(path: Path) -> dict[str, Any]:
    """A torn folder is passed over by `"auto"`, and refused by name."""
    if (manifest := read_manifest(path.parent)) is None:
        raise ValueError(f"{path} is not that of a complete checkpoint")
    return manifest


def a_metrics_log(folder: Path) -> Path:
    log = MetricsLog(folder / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1 / step})
    return log.path


def a_send_config(folder: Path) -> Path:
    SenDConfig().save(folder, dropped=[1], refreshes=[0])
    return folder / CONFIG_NAME


def settings_of(path: Path) -> dict[str, Any]:
    """The file behind `--config`, with the parser's error as an exception."""

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            raise ValueError(message)

    parser = Parser()
    parser.add_argument("--lr")
    return read_settings(parser, path)


#: Entries of an identity that have a default.
IDENTITY_OPTIONAL = ("revision", "prompts", "normalized", "compatible_with")


def an_identity(folder: Path) -> Path:
    from eigenhub.models.bt2.text_identity import IDENTITY_FILE, save_identity

    save_identity(NEW, folder)
    return folder / IDENTITY_FILE


def the_identity(path: Path) -> Any:
    from eigenhub.models.bt2.text_identity import load_identity

    return load_identity(str(path.parent))


def client_privacy() -> Any:
    from eigenhub.federated.flower.client_privacy import ClientDPConfig, ClientPrivacy

    return ClientPrivacy(ClientDPConfig(1.0, 1e-5, noise_multiplier=1.0, max_participations=3), FedSVDConfig())


def a_client_privacy(folder: Path) -> Path:
    privacy = client_privacy()
    privacy.entered("clinic")
    privacy.save(folder)
    return folder / "client_privacy.json"


JSON_LOADERS = [
    Loader("read_json", "json", text("run.json", '{"step": 3}\n'), lambda path: read_json(path, {"step": int})),
    Loader(
        "OptimizerConfig",
        "json",
        lambda folder: OptimizerConfig("trion", {"lr": 0.02, "rank": 2}).save_pretrained(folder),
        OptimizerConfig.from_pretrained,
    ),
    Loader("SenDConfig", "json", a_send_config, lambda path: SenDConfig.load(path.parent), ("dropped", "refreshes")),
    Loader(
        "FedSVDConfig",
        "json",
        lambda folder: FedSVDConfig().save_pretrained(folder),
        lambda path: FedSVDConfig.from_pretrained(path.parent),
        tuple(FedSVDConfig().to_dict()),
    ),
    Loader("PrivacyLedger", "json", a_ledger, PrivacyLedger.load, ("claim",)),
    Loader(
        "FederatedServer server.json",
        "json",
        lambda folder: a_server(folder) / ROUND_FILE,
        lambda path: make().load(path.parent),
        ("failures",),
    ),
    Loader("checkpoint manifest", "json", a_manifest, a_complete_checkpoint),
    Loader(
        "saved model",
        "json",
        text("config.json", json.dumps({"model_type": "s4d"})),
        lambda path: read_saved(path.parent),
    ),
    Loader(
        "record file",
        "json",
        lambda folder: OptimizerConfig("trion").save_pretrained(
            text("config.json", '{"model_type": "llama"}')(folder).parent
        ),
        lambda path: read_saved(path.parent),
        ("optimizer", "options"),
    ),
    Loader(
        "labels of directions",
        "json",
        lambda folder: some_directions(folder) / LABELS_NAME,
        lambda path: load_directions(path.parent),
    ),
    Loader("results", "yaml", text("results.yaml", EXAMPLE), load_results, ("published", "findings"), cuts=False),
    Loader("--config", "yaml", text("run.yaml", "lr: 0.1\n"), settings_of, ("lr", ""), cuts=False),
    Loader("metrics log", "jsonl", a_metrics_log, read_metrics, cuts=False),
    Loader(
        "sentences",
        "tsv",
        text("train.tsv", "a gem\t1\ndull\t0\n"),
        lambda path: load_sentences(path.parent),
        cuts=False,
    ),
]
if find_spec("sentence_transformers"):
    JSON_LOADERS.append(Loader("bt2_identity.json", "json", an_identity, the_identity, IDENTITY_OPTIONAL))
if find_spec("flwr"):
    JSON_LOADERS.append(
        Loader(
            "client_privacy.json",
            "json",
            a_client_privacy,
            lambda path: client_privacy().load(path.parent),
            ("claim", "epsilon", "noise_multiplier"),
        )
    )
