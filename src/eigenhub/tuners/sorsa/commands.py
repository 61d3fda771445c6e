# SPDX-License-Identifier: Apache-2.0
"""`eigenhub sorsa ...`."""

from typing import Annotated

import typer


app = typer.Typer(help="SORSA: tools beside training.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """SORSA: tools beside training."""


@app.command("svd-cache")
def svd_cache(
    model: Annotated[str, typer.Argument(help="Base model: Hub id or folder.")],
    out: Annotated[str, typer.Argument(help="Folder, or file name ending in .safetensors.")],
    r_max: Annotated[int, typer.Option(help="Triplets to keep per weight.", min=1)] = 128,
    target_modules: Annotated[
        str | None, typer.Option(help="Comma-separated names, 'all-linear', or PEFT's default if not given.")
    ] = None,
    driver: Annotated[str, typer.Option(help="auto, full, gram or randomized.")] = "auto",
    device: Annotated[str, typer.Option(help="Where to decompose, for example cuda.")] = "cpu",
    push_to_hub: Annotated[str | None, typer.Option(help="Hub id to upload the file to.")] = None,
) -> None:
    """Decompose the weights of a base model once, for all adapters of rank up to R_MAX."""
    from transformers import AutoModel, AutoModelForCausalLM

    from eigenhub.tuners.sorsa.svd_cache import build_svd_cache

    targets: list[str] | str | None = target_modules
    if target_modules not in (None, "all-linear"):
        targets = str(target_modules).split(",")
    try:
        base = AutoModelForCausalLM.from_pretrained(model, device_map=device)
    except ValueError:  # not a language model; the cache looks past the prefix that a head adds
        base = AutoModel.from_pretrained(model, device_map=device)
    path = build_svd_cache(base, out, r_max=r_max, target_modules=targets, svd_driver=driver)
    typer.echo(f"wrote {path}: use it as SorsaConfig(svd_cache={str(path)!r})")
    if push_to_hub:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(push_to_hub, exist_ok=True)
        api.upload_file(path_or_fileobj=path, path_in_repo=path.name, repo_id=push_to_hub)
        typer.echo(f"uploaded to {push_to_hub}: use it as SorsaConfig(svd_cache={push_to_hub!r})")
