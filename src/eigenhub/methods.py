# SPDX-License-Identifier: Apache-2.0
"""The one table of methods. Strings only: reading it imports nothing that a method needs."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


Kind = Literal["tuner", "model", "optimizer", "callback", "metric", "federated", "estimator"]
FOLDERS: dict[str, str] = {
    "tuner": "tuners",
    "model": "models",
    "optimizer": "optim",
    "callback": "training",
    "metric": "metrics",
    "federated": "federated",
    "estimator": "estimators",
}


@dataclass(frozen=True)
class Method:
    """One method of this package: what it is and where its parts lie.

    Args:
        slug (`str`): short name, the same in every path and command.
        title (`str`): name for readers.
        kind (`str`): the Hugging Face kind of its main artefact.
        summary (`str`): one line, no full stop.
        paper (`str`): title of the paper.
        arxiv (`str`): identifier of the paper on arXiv.
        package (`str`, *optional*, defaults to `"eigenhub.<folder of the kind>.<slug>"`): module that exports `public_names`;
            importing it registers what there is to register.
        script (`str`, *optional*, defaults to `"train_<slug>.py"`): file name of the training script.
        status (`str`, *optional*, defaults to `"released"`): `"released"`.
        saved_as (`tuple[str, ...]`, *optional*, defaults to `()`): `peft_type` or `model_type` values by which a
            saved folder is recognised as this method's.
        record_files (`tuple[str, ...]`, *optional*, defaults to `()`): JSON files that tell how a saved folder came about.
            Where the result is an ordinary artefact of another library, a folder with the first of them is this method's.
        commands (`str`, *optional*): `"module:typer_app"` with the method's own sub-commands.
        exporter (`str`, *optional*): `"module:function"` behind `eigenhub export`. The function takes the saved
            folder and the output folder, then its own options, typed, which become flags; it returns a dataclass that
            reports what was written.
    """

    slug: str
    title: str
    kind: Kind
    summary: str
    paper: str
    arxiv: str
    package: str = ""
    script: str = ""
    status: Literal["released"] = "released"
    saved_as: tuple[str, ...] = ()
    record_files: tuple[str, ...] = ()
    commands: str | None = None
    exporter: str | None = None

    def __post_init__(self) -> None:
        if not self.package:
            object.__setattr__(self, "package", f"eigenhub.{FOLDERS[self.kind]}.{self.slug}")
        if not self.script:
            object.__setattr__(self, "script", f"train_{self.slug}.py")

    @property
    def public_names(self) -> tuple[str, ...]:
        """The whole of `__all__` of `package`, read from its file: nothing is imported."""
        file = Path(__file__).parent.joinpath(*self.package.split(".")[1:], "__init__.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return tuple(ast.literal_eval(node.value))
        raise ValueError(f"{file} must assign a list of strings to `__all__`; it has none")

    @property
    def card(self) -> str:
        """Model card template."""
        return f"hub_cards/{self.slug}/README.md.jinja"

    @property
    def row(self) -> str:
        """What the table of methods says of its use, loading and figures: see `eigenhub.hub.methods_table`."""
        return f"hub_cards/{self.slug}/row.yaml"

    @property
    def results(self) -> str:
        """Measured and published figures."""
        return f"hub_cards/{self.slug}/results.yaml"

    @property
    def space(self) -> str:
        """Folder of the Space."""
        return f"spaces/{self.slug}"

    @property
    def script_path(self) -> str:
        """Training script, run by `eigenhub train`."""
        return f"scripts/{self.slug}/{self.script}"

    @property
    def demo(self) -> str:
        """Demo script, run by `eigenhub demo`."""
        return f"scripts/{self.slug}/demo.py"

    @property
    def docs(self) -> str:
        """Documentation page."""
        return f"docs/methods/{self.slug}.md"

    @property
    def benchmark(self) -> str:
        """Benchmark against peers."""
        return f"benchmarks/{self.slug}.py"

    @property
    def tests(self) -> str:
        """Folder of tests that mirrors the package."""
        return "tests/" + "/".join(self.package.split(".")[1:])


METHODS: tuple[Method, ...] = (
    Method(
        slug="sorsa",
        title="SORSA",
        kind="tuner",
        summary="Adapts a weight through its own leading singular triplets and keeps the vectors near orthonormal",
        paper="SORSA: Singular Values and Orthonormal Regularized Singular Vectors Adaptation of Large Language Models",
        arxiv="2409.00055",
        saved_as=("SORSA",),
        commands="eigenhub.tuners.sorsa.commands:app",
        exporter="eigenhub.tuners.sorsa:export_checkpoint",
    ),
    Method(
        slug="dct",
        title="DCT-AdamW, Trion and AuON",
        kind="optimizer",
        summary="Adam's moments or orthogonalised momentum in a few cosine directions, with no SVD and no stored projector",
        paper="SVD-Free Low-Rank Adaptive Gradient Optimization for Large Language Models",
        arxiv="2505.17967",
        package="eigenhub.optim",
        script="train_lm.py",
        record_files=("optimizer_config.json",),
    ),
    Method(
        slug="s5_ptd",
        title="S5-PTD, S4-PTD, S5 and S4D",
        kind="model",
        summary="Long-sequence models of linear cost and constant state whose state matrix is HiPPO, perturbed and then diagonalised",
        paper="Robustifying State-space Models for Long Sequences via Approximate Diagonalization",
        arxiv="2310.01698",
        script="train_lra.py",
        saved_as=("s5_ptd", "s4d"),
        exporter="eigenhub.hub.export_model:export_checkpoint",
    ),
    Method(
        slug="bt2",
        title="BT²",
        kind="model",
        summary="A new embedding model that searches the old model's index at once, so that it is embedded anew at leisure",
        paper="BT^2: Backward-compatible Training with Basis Transformation",
        arxiv="2211.03989",
        saved_as=("bt2", "bt2_embedder"),
        commands="eigenhub.models.bt2.commands:app",
        exporter="eigenhub.hub.export_model:export_checkpoint",
    ),
    Method(
        slug="fedsvd",
        title="FedSVD",
        kind="federated",
        summary="Clients that keep their data train one LoRA adapter, each with a privacy budget that is accounted over all rounds",
        paper="FedSVD: Adaptive Orthogonalization for Private Federated Learning with LoRA",
        arxiv="2505.12805",
        package="eigenhub.federated",
        record_files=("fedsvd_config.json", "privacy_ledger.json"),
    ),
    Method(
        slug="send",
        title="SenD and EigenScore",
        kind="callback",
        summary="Score how much sampled answers disagree inside the model, and train with the embedding indices dropped that move most",
        paper="Hallucination Detox: Sensitivity Dropout (SenD) for Large Language Model Training",
        arxiv="2410.15460",
        record_files=("send_config.json",),
    ),
    Method(
        slug="householder",
        title="Householder projector and StyleGAN2",
        kind="model",
        summary="StyleGAN2 on the Hub, and orthogonal editing directions for each of its layers, found without labels",
        paper="Householder Projector for Unsupervised Latent Semantics Discovery",
        arxiv="2307.08012",
        package="eigenhub.models.stylegan2",
        script="train_stylegan2.py",
        saved_as=("stylegan2",),
        commands="eigenhub.models.stylegan2.commands:app",
        exporter="eigenhub.hub.export_model:export_checkpoint",
    ),
)


def get_method(slug: str) -> Method:
    """The method called `slug`.

    Args:
        slug (`str`): name of a row of `METHODS`.

    Returns:
        `Method`: its row.
    """
    for method in METHODS:
        if method.slug == slug:
            return method
    raise ValueError(f"`slug` must be one of {', '.join(m.slug for m in METHODS)}; got {slug!r}")
