# SPDX-License-Identifier: Apache-2.0
"""What `train_fedsvd.py` refuses before a model or data is loaded."""

import argparse
import json
import os
from importlib.util import find_spec
from pathlib import Path

from fedsvd_options import B_ONLY, MOVE_BASE, PRIVATE_ONLY, SENTENCE_TASKS, pretrains

from eigenhub.training.checkpoint_files import check_settings, read_manifest
from eigenhub.training.launcher import asked_engine
from eigenhub.training.options import EMBEDDED, check_range, fixed_settings
from eigenhub.training.text_source import check_source, is_local


#: Beside the rounds: the settings that a continued run must share with them.
SETTINGS_FILE = "settings.json"
# May change between a run and its continuation, as in the package's own configuration.
_FREE = ("rounds", "min_clients", "client_eval_every", "personalized_steps")
TABLES = (".tsv", ".csv", ".jsonl", ".json", ".parquet")


def check_options(args: argparse.Namespace) -> None:
    """Raises for whatever can be known to fail, in options that [`resolve`] has completed."""
    check_range(args, ("lr", "alpha", "local_epochs", "dirichlet_alpha"), above=True)
    check_range(args, ("warmup", "weight_decay", "max_grad_norm", "refactor_warmup"))
    if not 0 < args.fraction <= 1:
        raise ValueError(f"--fraction must be in (0, 1], got {args.fraction}")
    for name in ("dropout", "client_eval_share", "public_share"):
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"--{name} must be in [0, 1), got {getattr(args, name)}")
    if args.local_steps and args.local_epochs:
        raise ValueError("--local_steps and --local_epochs exclude each other")
    if args.push_to_hub and not args.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id")
    if args.downlink == "rotation" and args.method not in B_ONLY:
        raise ValueError(f"--downlink rotation needs --method {', '.join(B_ONLY)}: others move the span of A")
    _check_engine()
    _check_clients(args)
    _check_evaluation(args)
    _check_privacy(args)
    _check_model(args)
    _check_data(args)
    _check_resume(args)


def client_ranks(args: argparse.Namespace) -> dict[str, int] | None:
    """The ranks by client, from `4 8 8` in the order of the clients or from `NAME=RANK`."""
    if not args.client_ranks:
        return None
    given = [str(entry) for entry in args.client_ranks]
    if all("=" in entry for entry in given):
        pairs = [entry.rpartition("=")[::2] for entry in given]
    elif args.partition == "natural_id":
        raise ValueError("--client_ranks must be NAME=RANK with --partition natural_id")
    elif len(given) != args.clients:
        raise ValueError(f"--client_ranks must be {args.clients}, one per client, or NAME=RANK; got {len(given)}")
    else:
        pairs = list(zip(numbered(args.clients), given, strict=True))
    for name, rank in pairs:
        if not rank.isdecimal() or not 1 <= int(rank) <= args.r:
            raise ValueError(f"--client_ranks: the rank of {name} must be in [1, {args.r}], got {rank!r}")
    return {name: int(rank) for name, rank in pairs}


def numbered(count: int) -> list[str]:
    """Names of clients that the data does not name, all of one length."""
    return [f"client_{str(number).zfill(len(str(count - 1)))}" for number in range(count)]


def _check_engine() -> None:
    if (engine := asked_engine()) is not None:
        raise ValueError(
            f"{engine} keeps shards, which the server cannot average: launch with --multi_gpu, or one GPU"
        )


def _check_clients(args: argparse.Namespace) -> None:
    if (args.partition == "natural_id") != bool(args.client_column):
        raise ValueError("--partition natural_id and --client_column go together")
    if args.task == "digits" and args.partition == "natural_id":
        raise ValueError("--partition natural_id: the digits have no column of writers")
    if args.partition in ("dirichlet", "shard") and args.task == "causal_lm" and not args.label_column:
        raise ValueError(f"--partition {args.partition} needs --label_column for --task causal_lm")
    client_ranks(args)
    if args.partition != "natural_id":
        asked = max(1, round(args.fraction * args.clients))
        if args.min_clients > asked:
            raise ValueError(
                f"--min_clients is {args.min_clients}, but only {asked} of {args.clients} clients train in a round"
            )


def _check_evaluation(args: argparse.Namespace) -> None:
    asked = [name for name in ("client_eval_every", "personalized_steps") if getattr(args, name)]
    if asked and not args.client_eval_share:
        raise ValueError(f"--{asked[0]} needs --client_eval_share: rows of the clients to evaluate on")
    if args.dp and args.client_eval_share and not args.private_metrics:
        raise ValueError("--client_eval_share under --dp needs --private_metrics: such figures are not protected")
    if args.aggregation_error and args.client_ranks:
        raise ValueError("--aggregation_error needs clients of one rank, not --client_ranks")
    if args.task == "digits" and (args.eval_dataset or args.eval_splits):
        raise ValueError("--task digits brings its own data; --eval_dataset and --eval_splits are for others")


def _check_privacy(args: argparse.Namespace) -> None:
    given = [name for name in PRIVATE_ONLY if getattr(args, name) not in (None, False)]
    if given and not args.dp:
        raise ValueError(f"--{given[0]} is for --dp, without which nothing is private")
    if not args.dp:
        return
    check_range(args, ("epsilon", "dp_max_grad_norm"), above=True)
    check_range(args, ("noise_multiplier",))
    if not 0 < args.delta < 1:
        raise ValueError(f"--delta must be in (0, 1), got {args.delta}")
    if args.checkpoint_every != 1:
        raise ValueError(f"--checkpoint_every must be 1 under --dp, got {args.checkpoint_every}: rounds cost privacy")
    if args.gradient_checkpointing:
        raise ValueError("--gradient_checkpointing hides what --dp needs: use --physical_batch_size to save memory")
    if pretrains(args) and not args.public_share:
        raise ValueError("--dp needs --public_share: pretrained on the clients' own text, the base would tell of it")
    if args.client_ranks and args.method not in B_ONLY:
        raise ValueError(f"--client_ranks under --dp needs --method {', '.join(B_ONLY)}")
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(f"--dp runs in one process, found {processes}")
    if find_spec("opacus") is None:
        raise ValueError("--dp needs opacus: pip install 'eigenhub[dp]'")


def _check_model(args: argparse.Namespace) -> None:
    if args.model.startswith((".", "/", "~")) and not Path(args.model).expanduser().is_dir():
        raise FileNotFoundError(f"--model: no such folder: {args.model}")
    if not args.load_in_4bit:
        return
    if args.task != "causal_lm" or args.model == EMBEDDED:
        raise ValueError("--load_in_4bit is for --task causal_lm with a --model")
    if args.method in MOVE_BASE:
        raise ValueError(f"--load_in_4bit: --method {args.method} adds to the base weights, which are quantised")
    if find_spec("bitsandbytes") is None:
        raise ValueError("--load_in_4bit needs bitsandbytes: pip install 'eigenhub[quant]'")


def _check_data(args: argparse.Namespace) -> None:
    if args.task == "digits":
        if args.dataset != EMBEDDED:
            raise ValueError(f"--task digits brings its own data, got --dataset {args.dataset}")
        return
    if args.task == "causal_lm":
        for source in (args.dataset, args.eval_dataset):
            if source not in (None, EMBEDDED):
                check_source(source)
        if args.dataset == EMBEDDED and args.dataset_split not in ("train", "test"):
            raise ValueError(f"--dataset_split of the embedded problems is train or test, got {args.dataset_split}")
        if "{prompt}" not in args.prompt_template:
            raise ValueError(f"--prompt_template must contain {{prompt}}, got {args.prompt_template!r}")
        if args.input_column and not args.prompt_column:
            raise ValueError("--input_column needs --prompt_column and --response_column")
        return
    if args.dataset is None:
        raise ValueError("--task sentences needs --dataset: a Hub id, a folder or a file")
    if args.task in SENTENCE_TASKS and not 1 <= len(args.sentence_columns) <= 2:
        raise ValueError(f"--sentence_columns must be one or two, got {len(args.sentence_columns)}")
    for source in (args.dataset, args.eval_dataset):
        _check_table(source)


def _check_table(source: str | None) -> None:
    """Local sentences are tables; raises if there is none under that name."""
    if source is None or not (is_local(source) or Path(source).suffix in TABLES):
        return
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no such data file or folder: {source}")
    if path.is_file() and path.suffix not in TABLES:
        raise ValueError(f"{source}: unknown kind of table {path.suffix!r}, expected one of {', '.join(TABLES)}")


def rounds_folder(args: argparse.Namespace) -> Path:
    """Where the rounds are saved."""
    return args.output_dir / "checkpoints"


def run_settings(args: argparse.Namespace) -> dict[str, object]:
    """What a continued run has to share with the one that began."""
    return json.loads(json.dumps({name: value for name, value in fixed_settings(args).items() if name not in _FREE}))


def _check_resume(args: argparse.Namespace) -> None:
    """Raises where a run would overwrite another's rounds or cannot continue the one it is to."""
    folder = rounds_folder(args)
    if args.resume is None:
        if any(folder.glob("round_*")):
            raise ValueError(f"{args.output_dir} holds rounds of a run: pass --resume auto or another --output_dir")
        return
    if args.resume != "auto":
        if read_manifest(Path(args.resume)) is None:
            raise ValueError(f"--resume: {args.resume} is not a complete round (or say auto)")
        folder = Path(args.resume).parent
    if (path := folder / SETTINGS_FILE).is_file():
        check_settings(folder, json.loads(path.read_text()), run_settings(args))
