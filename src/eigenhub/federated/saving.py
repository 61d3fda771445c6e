# SPDX-License-Identifier: Apache-2.0
"""The result of a federated run on disk and on the Hub: a stock LoRA adapter and how it came about."""

from pathlib import Path

from huggingface_hub import HfApi
from peft import PeftModel

from eigenhub.federated.base_weights import contained_adapter
from eigenhub.federated.lora_model import check_lora_model
from eigenhub.federated.privacy_ledger import PrivacyLedger
from eigenhub.federated.server import FederatedServer
from eigenhub.files import write_tensors


PUSHED = ("*.safetensors", "*config.json", "*.json", "*.model", "*.txt", "README.md", ".eval_results/*")


def save_adapter(
    model: PeftModel,
    folder: Path,
    server: FederatedServer,
    ledger: PrivacyLedger | None = None,
    adapter_name: str = "default",
) -> Path:
    """Write the adapter for `PeftModel.from_pretrained`, `fedsvd_config.json` and `privacy_ledger.json`.

    Args:
        model (`PeftModel`): holds the server's state.
        folder (`Path`): made if necessary; an adapter of another name than `default` gets a folder in it, as in PEFT.
        server (`FederatedServer`): tells configuration and what was added to the base weights.
        ledger (`PrivacyLedger`, *optional*): what the clients have spent.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.

    Returns:
        `Path`: where the adapter lies.
    """
    model.save_pretrained(str(folder), selected_adapters=[adapter_name])
    written = folder if adapter_name == "default" else folder / adapter_name
    if server.base_sums:
        config, state = contained_adapter(
            check_lora_model(model, adapter_name), server.state, server.base_sums, server.scalings
        )
        config.inference_mode = True
        config.save_pretrained(str(written))
        write_tensors(written / "adapter_model.safetensors", state, {"format": "pt"})
    server.config.save_pretrained(written)
    if ledger is not None:
        ledger.save(written)
    return written


def push_adapter(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload federated LoRA adapter",
) -> str:
    """Push the folder of an adapter; rounds and logs beside it stay here.

    Args:
        folder (`Path`): from [`save_adapter`].
        repo_id (`str`): repository on the Hub, made if necessary.
        private (`bool`, *optional*): of a new repository.
        token (`str` or `bool`, *optional*): by default the one of `hf auth login`.
        revision (`str`, *optional*): branch.
        commit_message (`str`, *optional*): of the commit.

    Returns:
        `str`: address of the commit.
    """
    api = HfApi(token=token)
    repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    commit = api.upload_folder(
        repo_id=repo,
        folder_path=folder,
        revision=revision,
        commit_message=commit_message,
        allow_patterns=list(PUSHED),
        ignore_patterns=["round_*/*", "history.json"],
    )
    return str(commit.commit_url)
