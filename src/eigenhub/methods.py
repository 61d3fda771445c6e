# SPDX-License-Identifier: Apache-2.0
"""The one table of methods. Strings only: reading it imports nothing that a method needs."""

from dataclasses import dataclass
from typing import Literal


Kind = Literal["tuner", "model", "optimizer", "callback", "metric", "federated", "estimator"]


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
        package (`str`): module that exports `public_names`; importing it registers what there is to register.
        public_names (`tuple[str, ...]`): the whole of `__all__` of `package`.
        script (`str`): file name of the training script.
        status (`str`): `"released"`.
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
    package: str
    public_names: tuple[str, ...]
    script: str
    status: Literal["released"]
    saved_as: tuple[str, ...] = ()
    record_files: tuple[str, ...] = ()
    commands: str | None = None
    exporter: str | None = None

    @property
    def card(self) -> str:
        """Model card template."""
        return f"hub_cards/{self.slug}/README.md.jinja"

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
        package="eigenhub.tuners.sorsa",
        public_names=(
            "Drift",
            "ExportReport",
            "LayerSpectrum",
            "SorsaConfig",
            "SorsaConv1D",
            "SorsaLayer",
            "SorsaLinear",
            "SorsaLinear4bit",
            "SorsaLinear8bitLt",
            "SorsaModel",
            "SorsaRegularizerCallback",
            "SorsaTrainer",
            "SorsaTrainerMixin",
            "apply_regularizer",
            "build_svd_cache",
            "export_checkpoint",
            "export_lora",
            "lambda_from_gamma",
            "orthonormality_penalty",
            "sorsa_param_groups",
            "spectrum_report",
            "weight_drift",
        ),
        script="train_sorsa.py",
        status="released",
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
        public_names=(
            "Assignment",
            "AuON",
            "AuONFactory",
            "DCTAdamW",
            "DCTAdamWFactory",
            "HybridAuON",
            "MemoryReport",
            "OptimizerConfig",
            "ParamGroups",
            "Trion",
            "TrionFactory",
            "basis_bytes",
            "brake",
            "brake_bounds",
            "build_param_groups",
            "factory_kwargs_from",
            "memory_report",
            "state_numbers",
            "step_in_backward",
        ),
        script="train_lm.py",
        status="released",
    ),
    Method(
        slug="s5_ptd",
        title="S5-PTD, S4-PTD, S5 and S4D",
        kind="model",
        summary="Long-sequence models of linear cost and constant state whose state matrix is HiPPO, perturbed and then diagonalised",
        paper="Robustifying State-space Models for Long Sequences via Approximate Diagonalization",
        arxiv="2310.01698",
        package="eigenhub.models.s5_ptd",
        public_names=(
            "FourierNoise",
            "S5AdamW",
            "S5Cache",
            "S5Config",
            "S5ForAudioClassification",
            "S5ForCausalLM",
            "S5ForImageClassification",
            "S5ForSequenceClassification",
            "S5ForSequencePairClassification",
            "S5ForTimeSeriesRegression",
            "S5Model",
            "s5_param_groups",
        ),
        script="train_lra.py",
        status="released",
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
        package="eigenhub.models.bt2",
        public_names=(
            "BackfillCurve",
            "BackfillReport",
            "BackwardCompatibilityEvaluator",
            "BackwardCompatibleLoss",
            "BasisTransformation",
            "Bt2Config",
            "Bt2EmbedderConfig",
            "Bt2EmbedderForImageClassification",
            "Bt2EmbedderOutput",
            "Bt2ForImageClassification",
            "Bt2ImageClassifierOutput",
            "Bt2Model",
            "Bt2ModelOutput",
            "Calibration",
            "ClassPrototypes",
            "CompatibleIndex",
            "EncodedTexts",
            "EncoderIdentity",
            "HeadRecipe",
            "IdentityError",
            "IndexStatus",
            "ItemVectors",
            "MigrationReport",
            "PATHS",
            "PathResult",
            "Ranking",
            "RebaseCallback",
            "Relevance",
            "SearchResult",
            "TeacherVectors",
            "TextPairs",
            "UpgradePath",
            "attach_head",
            "backfill_curve",
            "bt2_param_groups",
            "cached_vectors",
            "calibrate_old_scale",
            "class_prototypes",
            "compare_paths",
            "compat_losses",
            "contrastive_influence_loss",
            "docstring_pairs",
            "evaluate_upgrade",
            "fit_head",
            "fit_paths",
            "fit_sentence_transformer",
            "fold",
            "identity_of",
            "influence_loss",
            "load_identity",
            "load_sentence_transformer",
            "merge_cosine_results",
            "migration_report",
            "new_teacher_loss",
            "old_match_loss",
            "push_to_hub",
            "rank",
            "read_pairs",
            "rebase_long_rotations_",
            "report_text",
            "save_folded",
            "teacher_of",
            "update_gain",
            "warm_start_",
            "weights_fingerprint",
        ),
        script="train_bt2.py",
        status="released",
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
        public_names=(
            "AggregateResult",
            "ClientUpdate",
            "DPConfig",
            "FedSVDConfig",
            "FederatedCallback",
            "FederatedLoraTrainer",
            "FederatedServer",
            "LoraKeys",
            "PrivacyLedger",
            "QuorumError",
            "RefactorResult",
            "RejectedUpdate",
            "RoundAggregator",
            "aggregate",
            "aggregation_error",
            "dirichlet",
            "freeze_lora_A_",
            "iid",
            "natural_id",
            "orthonormalize_lora_A_",
            "pair_lora_keys",
            "refactor_lora",
            "refactor_lora_",
            "refactor_state_dict",
            "shard",
        ),
        script="train_fedsvd.py",
        status="released",
        record_files=("fedsvd_config.json", "privacy_ledger.json"),
    ),
    Method(
        slug="send",
        title="SenD and EigenScore",
        kind="callback",
        summary="Score how much sampled answers disagree inside the model, and train with the embedding indices dropped that move most",
        paper="Hallucination Detox: Sensitivity Dropout (SenD) for Large Language Model Training",
        arxiv="2410.15460",
        package="eigenhub.training.send",
        public_names=(
            "ActivationGate",
            "SenDCallback",
            "SenDConfig",
            "SenDRuntime",
            "SenDTrainer",
            "SenDTrainerMixin",
            "SensitivityTracker",
            "WeightAverage",
            "bake",
            "most_sensitive",
            "remove_send",
            "runtime_of",
            "sensitivity",
            "split_tracking",
            "tracked_embeddings",
        ),
        script="train_send.py",
        status="released",
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
        public_names=(
            "AdaptiveAugment",
            "Directions",
            "LabelledDirections",
            "PathLengthPenalty",
            "StyleGAN2Config",
            "StyleGAN2Discriminator",
            "StyleGAN2DiscriminatorOutput",
            "StyleGAN2Generator",
            "StyleGAN2Networks",
            "StyleGAN2Output",
            "average_decay",
            "averaged_copy",
            "discriminator_loss",
            "generator_loss",
            "hessian_penalty",
            "jacobian_penalty",
            "layer_directions",
            "load_checkpoint",
            "load_directions",
            "load_nvidia",
            "load_rosinality",
            "mix_styles",
            "mixed_latents",
            "r1_penalty",
            "save_directions",
            "save_nvidia",
            "save_rosinality",
            "sefa_directions",
            "traverse",
            "update_average",
        ),
        script="train_stylegan2.py",
        status="released",
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


def methods_table() -> str:
    """The methods as a Markdown table: the part of the README between its `methods` markers."""
    rows = ["| method | kind | what it does | paper |", "| --- | --- | --- | --- |"]
    for m in METHODS:
        paper = f"[{m.arxiv}](https://arxiv.org/abs/{m.arxiv})"
        rows.append(f"| [{m.title}]({m.docs}) (`{m.slug}`) | {m.kind} | {m.summary} | {paper} |")
    return "\n".join(rows)
