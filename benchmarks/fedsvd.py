# SPDX-License-Identifier: Apache-2.0
"""The server's step of FedSVD against the dense one, the embedded engine against a bare loop, bytes, memory, the ledger.

python benchmarks/fedsvd.py            # some four minutes, most of them one dense SVD at 4096 x 4096
python benchmarks/fedsvd.py --short    # 1024 x 1024 and few rounds; saves nothing
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from support.report import row, save
from support.timing import interleaved
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm
from transformers import AutoModelForImageClassification, TrainingArguments

from eigenhub.embedded.digits import as_rows, load_digits
from eigenhub.embedded.vit import pretrained_vit_folder
from eigenhub.federated import (
    DPConfig,
    FederatedLoraTrainer,
    FederatedServer,
    FedSVDConfig,
    PrivacyLedger,
    dirichlet,
    refactor_lora,
    refactor_state_dict,
)
from eigenhub.federated.downlink import num_bytes


LAYERS, WIDTH, RANK = 48, 1024, 8  # query and value of RoBERTa-large
CLIENTS, STEPS, BATCH = 6, 10, 32
NOTE = "Ratios of times in one run on one thread; of bytes, memory or plain figures where a row says so."


def decompositions(d: int, rank: int, rounds: int) -> list[dict]:
    """One layer: ours, the dense SVD of the released code, a randomised one, and the dense product alone."""
    b, a = torch.randn(d, rank), torch.randn(rank, d)
    calls = {
        "ours": lambda: refactor_lora(b, a),
        "dense product alone": lambda: b @ a,
        "svd_lowrank of the dense product": lambda: torch.svd_lowrank(b @ a, q=rank),
    }
    seconds = interleaved(calls, rounds, f"{d} x {d}, r={rank}")
    start = time.perf_counter()
    u, s, vh = torch.linalg.svd(b @ a, full_matrices=False)
    seconds["dense SVD"] = [time.perf_counter() - start]
    best = {name: min(values) for name, values in seconds.items()}
    setting = f"{d} x {d}, r={rank}, float32 in and out; {1e3 * best['ours']:.2f} ms"
    bounds = {"dense SVD": 1e-4} if d == 4096 else {}
    rows = [
        row(
            f"refactor / {peer}",
            f"{setting} against {1e3 * best[peer]:.1f} ms",
            best["ours"] / best[peer],
            bounds.get(peer),
        )
        for peer in best
        if peer != "ours"
    ]
    exact = b.double() @ a.double()
    found = refactor_lora(b, a)
    dense = (u[:, :rank] * s[:rank]).double() @ vh[:rank].double()
    for name, product, bound in (("ours", found.B.double() @ found.A.double(), 1e-6), ("dense SVD", dense, None)):
        rows.append(
            row(f"relative error of the product, {name}", f"{d} x {d}, r={rank}", error(product, exact), bound)
        )
    return rows


def error(product: Tensor, exact: Tensor) -> float:
    return ((product - exact).norm() / exact.norm()).item()


def roberta_large() -> dict[str, Tensor]:
    """The adapter of RoBERTa-large: query and value of 24 layers."""
    shapes = {"A": (RANK, WIDTH), "B": (WIDTH, RANK)}
    return {f"{i}.lora_{f}.weight": torch.randn(*shapes[f]) for i in range(LAYERS) for f in "AB"}


def whole_adapter(rounds: int) -> list[dict]:
    state = roberta_large()
    seconds = interleaved({"all": lambda: refactor_state_dict(state)}, rounds, "RoBERTa-large")
    return [
        row("seconds for a whole adapter", f"{LAYERS} layers of {WIDTH} x {WIDTH}, r={RANK}", min(seconds["all"]), 0.2)
    ]


def traffic() -> list[dict]:
    """Bytes of one client and round, for the adapter of RoBERTa-large."""
    state = roberta_large()
    servers = {
        name: FederatedServer(FedSVDConfig(**options), state, {str(i): 1.0 for i in range(LAYERS)})
        for name, options in {
            "FedSVD": {},
            "rotation": {"downlink": "rotation"},
            "FedAvg": {"method": "fedavg"},
        }.items()
    }
    up = {name: num_bytes({key: state[key] for key in server.upload_keys}) for name, server in servers.items()}
    down = {name: num_bytes(server.broadcast()) for name, server in servers.items()}
    shown = "adapter of RoBERTa-large, float32, per client and round; {:.2f} MB against {:.2f} MB"
    return [
        row(
            "bytes up, FedSVD / LoRA averaging",
            shown.format(up["FedSVD"] / 1e6, up["FedAvg"] / 1e6),
            up["FedSVD"] / up["FedAvg"],
            0.5,
        ),
        row(
            "bytes down, rotation / full",
            shown.format(down["rotation"] / 1e6, down["FedSVD"] / 1e6),
            down["rotation"] / down["FedSVD"],
        ),
    ]


def digits_model() -> PeftModel:
    base = AutoModelForImageClassification.from_pretrained(pretrained_vit_folder())
    return get_peft_model(base, LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"]))


def arguments(folder: str) -> TrainingArguments:
    return TrainingArguments(
        folder, per_device_train_batch_size=BATCH, optim="sgd", learning_rate=0.5, lr_scheduler_type="constant",
        use_cpu=True, disable_tqdm=True, report_to="none",
    )  # fmt: skip


def bare_round(model: PeftModel, clients: list[list[dict]], seeds: Iterator[int]) -> None:
    """The local steps of a round and nothing else."""
    model.train()
    parameters = [p for name, p in model.named_parameters() if "lora_B" in name]
    for rows in clients:
        optimizer = torch.optim.SGD(parameters, lr=0.5)
        sampler = RandomSampler(rows, generator=torch.Generator().manual_seed(next(seeds)))
        batches = iter(DataLoader(rows, BATCH, sampler=sampler, drop_last=True))
        for _ in range(STEPS):
            try:
                batch = next(batches)
            except StopIteration:
                batches = iter(DataLoader(rows, BATCH, sampler=sampler, drop_last=True))
                batch = next(batches)
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()


def overhead(rounds: int) -> list[dict]:
    """Processor time of whole rounds, saving included, against their local steps alone, in turn."""
    data = load_digits()["train"]
    clients = [as_rows(share) for share in dirichlet(data, CLIENTS, alpha=100.0, label_column="labels")]
    bare = digits_model()
    for name, parameter in bare.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    with tempfile.TemporaryDirectory() as folder:
        config = FedSVDConfig(num_rounds=rounds + 1, client_fraction=1.0, local_steps=STEPS)
        trainer = FederatedLoraTrainer(digits_model(), arguments(folder), clients, config=config)
        numbers, seeds = count(1), count()
        calls = {
            "engine": lambda: trainer._run_round(next(numbers), trainer.clients),
            "bare": lambda: bare_round(bare, clients, seeds),
        }
        total = processor_seconds(calls, rounds)
    setting = (
        f"{CLIENTS} clients, {STEPS} steps of {BATCH} digits, ViT of 69,000 parameters, {rounds} rounds, each saved"
    )
    shown = f"{setting}; {1e3 * total['engine'] / rounds:.0f} ms a round"
    return [row("embedded engine / bare loop", shown, total["engine"] / total["bare"], 1.05)]


def processor_seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Processor time of all rounds of each call, in turn; one untimed round of each before."""
    total = dict.fromkeys(calls, 0.0)
    for number in tqdm(range(rounds + 1), "rounds of the engine and of a bare loop"):
        for name, call in calls.items():
            start = time.process_time()
            call()
            total[name] += (time.process_time() - start) * (number > 0)
    return total


def ledger() -> list[dict]:
    """A second look at what clients have spent, against the first."""
    book = PrivacyLedger(DPConfig(target_epsilon=6.0, target_delta=1e-5))
    for client in range(20):
        book.enroll(str(client), num_examples=5000 + client, steps_per_round=10, batch_size=128, max_participations=50)
        book.record(str(client), round=1, steps=10)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        book.spent()
        times.append(time.perf_counter() - start)
    setting = f"20 clients of different sizes, PRV accountant; first look {times[0]:.1f} s"
    return [row("privacy ledger, second look / first", setting, times[1] / times[0], 0.01)]


class Made(Mapping):
    """Rows of a client, drawn when asked for."""

    def __init__(self, clients: int) -> None:
        self.names = [f"{i:04d}" for i in range(clients)]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(int(name))
        images = torch.rand(64, 1, 8, 8, generator=generator)
        labels = torch.randint(0, 10, (64,), generator=generator)
        return [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]


def peak_with(clients: int, sampled: int, rounds: int) -> float:
    """Most resident memory, in MB, of a process that runs some rounds."""
    child = [sys.executable, __file__, "--child", str(clients), "--sampled", str(sampled), "--rounds", str(rounds)]
    return float(subprocess.run(child, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def run_child(clients: int, sampled: int, rounds: int) -> None:
    import resource

    with tempfile.TemporaryDirectory() as folder:
        config = FedSVDConfig(num_rounds=rounds, client_fraction=sampled / clients, local_steps=1)
        FederatedLoraTrainer(digits_model(), arguments(folder), Made(clients), config=config).train()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(rounds: int) -> list[dict]:
    few, many = (peak_with(clients, 50, rounds) for clients in (50, 1000))
    setting = f"50 sampled of 1,000 against 50 of 50, {rounds} rounds; {many:.0f} MB against {few:.0f} MB"
    return [row("peak memory, 1,000 clients / 50 clients", setting, many / few, 1.02)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--sampled", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.child:
        run_child(args.child, args.sampled, args.rounds)
        return
    sizes = [(1024, 8)] if args.short else [(1024, 8), (4096, 16)]
    rows = [line for d, rank in sizes for line in decompositions(d, rank, 5 if args.short else 20)]
    rows += whole_adapter(5 if args.short else 20) + traffic()
    rows += overhead(3 if args.short else 20) + ledger() + memory(2 if args.short else 10)
    save("fedsvd", "FedSVD", rows, ["peft", "transformers", "opacus"], keep=not args.short, note=NOTE)


if __name__ == "__main__":
    main()
