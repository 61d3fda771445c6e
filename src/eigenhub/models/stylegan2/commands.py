# SPDX-License-Identifier: Apache-2.0
"""`eigenhub householder ...`: checkpoints of other codes in, and out again."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


app = typer.Typer(help="StyleGAN2 checkpoints for editing along Householder directions.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """StyleGAN2 checkpoints for editing along Householder directions."""


@app.command("convert")
def convert_command(
    checkpoint: Annotated[Path, typer.Argument(help="A .pkl of NVIDIA's PyTorch code, or a .pt.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: the averaged generator, the discriminator below.")],
    source: Annotated[
        Literal["auto", "nvidia", "rosinality", "householder"],
        typer.Option("--from", help="Code that wrote the checkpoint; auto tells by its content."),
    ] = "auto",
    rank: Annotated[int, typer.Option(help="Rank of official projectors, which the file does not tell.", min=1)] = 10,
    push_to_hub: Annotated[str | None, typer.Option(help="Hub id to upload the folder to.")] = None,
) -> None:
    """Read a checkpoint without running what it brings, and write a folder for `from_pretrained`."""
    from eigenhub.models.stylegan2.conversion import load_checkpoint

    try:
        networks = load_checkpoint(checkpoint, source, rank)
        networks.save_pretrained(out)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="CHECKPOINT") from error
    config = networks.best_generator.config
    names = [name for name in ("generator_ema", "generator", "discriminator") if getattr(networks, name) is not None]
    typer.echo(f"wrote {out}: {', '.join(names)} at {config.img_resolution} px")
    if config.projected_names:
        typer.echo(f"projectors of rank {config.projector_rank} in {', '.join(config.projected_names)}")
    if push_to_hub:
        from huggingface_hub import HfApi

        HfApi().create_repo(push_to_hub, exist_ok=True)
        typer.echo(f"uploaded: {HfApi().upload_folder(repo_id=push_to_hub, folder_path=out)}")


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="A folder that `convert` or `save_pretrained` wrote.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    layout: Annotated[
        Literal["nvidia", "rosinality"],
        typer.Option("--to", help="rosinality's code loads the file; NVIDIA's takes its state_dict entries."),
    ] = "rosinality",
) -> None:
    """Write the tensors in the layout of another code, with projectors folded."""
    from eigenhub.models.stylegan2.networks import StyleGAN2Networks
    from eigenhub.models.stylegan2.nvidia_format import save_nvidia
    from eigenhub.models.stylegan2.rosinality_format import save_rosinality

    save: Any = {"nvidia": save_nvidia, "rosinality": save_rosinality}[layout]
    try:
        save(StyleGAN2Networks.from_pretrained(folder), out)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="FOLDER") from error
    typer.echo(f"wrote {out}")
