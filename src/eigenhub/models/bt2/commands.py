# SPDX-License-Identifier: Apache-2.0
"""`eigenhub bt2 ...`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer


if TYPE_CHECKING:
    from eigenhub.models.bt2.text_base import SentenceTransformer


app = typer.Typer(help="BT²: upgrade an embedding model without re-embedding the index.", no_args_is_help=True)

OLD = Annotated[str, typer.Option(help="Encoder behind the index: Hub id or folder.")]
NEW = Annotated[str, typer.Option(help="The better encoder: Hub id or folder.")]
TEXTS_HELP = (
    "file of texts (.txt; .csv or .tsv, whose first line names the columns; .jsonl, .parquet), data set on the Hub, or "
    "docstrings[:package,...]; two columns of text are queries and their documents."
)
QueryColumn = Annotated[str | None, typer.Option(help="Column of the queries; by default the first one with text.")]
DocumentColumn = Annotated[str | None, typer.Option(help="Column of the documents; by default the second one.")]
Split = Annotated[str, typer.Option(help="Split of a data set on the Hub.")]
BatchSize = Annotated[int, typer.Option(help="Texts encoded at a time.", min=1)]
AddedDim = Annotated[
    int, typer.Option(help="Coordinates beyond those of the new encoder; 0 needs no training.", min=0)
]
Scale = Annotated[float, typer.Option(help="Weight of the new encoder's space.")]
Epochs = Annotated[int, typer.Option(help="Passes over the pairs.", min=1)]
Lr = Annotated[float, typer.Option(help="Peak learning rate.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str | None, typer.Option(help="Where to encode, for example cuda.")]


@app.callback()
def main() -> None:
    """BT²: upgrade an embedding model without re-embedding the index."""


@app.command("fit-head")
def fit_head_command(
    old: OLD,
    new: NEW,
    texts: Annotated[str, typer.Option(help=f"What to fit on, some thousand rows: {TEXTS_HELP}")],
    out: Annotated[Path, typer.Option(help="Folder to write the backward-compatible encoder to.")] = Path(
        "bt2-encoder"
    ),
    query_column: QueryColumn = None,
    document_column: DocumentColumn = None,
    split: Split = "train",
    limit: Annotated[int, typer.Option(help="Largest number of rows, drawn at random.", min=1)] = 20_000,
    added_dim: AddedDim = 32,
    scale: Scale = 2.0,
    added: Annotated[
        Literal["linear", "normalized"],
        typer.Option(help="linear is written in a form that loads everywhere; normalized is that of the paper."),
    ] = "linear",
    epochs: Epochs = 10,
    lr: Lr = 1e-3,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = None,
    push_to_hub: Annotated[str | None, typer.Option(help="Hub id to upload the result to.")] = None,
) -> None:
    """Make an encoder whose vectors search an index of old ones. Both encoders stay as they are."""
    with one_line_errors():
        from eigenhub.models.bt2 import text_export
        from eigenhub.models.bt2.head_fitting import HeadRecipe
        from eigenhub.models.bt2.text_pairs import read_pairs
        from eigenhub.models.bt2.text_upgrade import fit_sentence_transformer

        recipe = HeadRecipe(added_dim, scale, added, epochs, lr=lr, seed=seed)
        pairs = read_pairs(texts, query_column, document_column, split, limit, seed)
        typer.echo(f"{len(pairs)} {'pairs' if pairs.documents else 'texts'} from {texts}", err=True)
        encoders = encoder(new, device), encoder(old, device)
        model = fit_sentence_transformer(
            *encoders, pairs.queries, pairs.documents, recipe, batch_size=batch_size, progress=True
        )
        folds = added == "linear" or added_dim == 0
        text_export.save_folded(model, out) if folds else model.save(str(out))
        typer.echo(_how_to_use(out, model, folds))
        if push_to_hub:
            typer.echo(f"uploaded: {text_export.push_to_hub(model, push_to_hub, folded=folds)}")


@app.command("eval")
def eval_command(
    old: OLD,
    new: NEW,
    texts: Annotated[str, typer.Option(help=f"What to measure on, not used for fitting: {TEXTS_HELP}")],
    model: Annotated[
        str | None, typer.Option(help="Encoder of `fit-head`; without it a head is fitted on --fit-texts now.")
    ] = None,
    fit_texts: Annotated[
        str | None, typer.Option(help="What to fit a head and the baselines on; like --texts, without overlap.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Measure the other ways of upgrading too; needs --fit-texts.")
    ] = False,
    num_vectors: Annotated[int, typer.Option(help="Number of items in the index.", min=1)] = 1_000_000,
    price_per_hour: Annotated[float | None, typer.Option(help="Price of the machine that embeds.")] = None,
    query_column: QueryColumn = None,
    document_column: DocumentColumn = None,
    split: Split = "test",
    fit_split: Annotated[
        str, typer.Option(help="Split of --fit-texts, where that is a data set on the Hub.")
    ] = "train",
    limit: Annotated[int, typer.Option(help="Largest number of rows of either, drawn at random.", min=1)] = 20_000,
    added_dim: AddedDim = 32,
    strict: Annotated[bool, typer.Option(help="Exit with 1 where the new encoder is not better.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Say what changing the encoder of an index would bring and cost: recall before, now and after, hours, storage."""
    with one_line_errors():
        from eigenhub.models.bt2.migration import BETTER
        from eigenhub.models.bt2.migration_text import report_text
        from eigenhub.models.bt2.text_evaluation import evaluate_upgrade
        from eigenhub.models.bt2.text_pairs import read_pairs

        if model is None and fit_texts is None:
            raise ValueError("give --model, or --fit-texts to fit a head on")
        if baselines and fit_texts is None:
            raise ValueError("--baselines needs --fit-texts")
        columns = query_column, document_column
        pairs = read_pairs(texts, *columns, split, limit, seed)
        fit_pairs = read_pairs(fit_texts, *columns, fit_split, limit, seed) if fit_texts else None
        report = evaluate_upgrade(
            pairs,
            encoder(old, device),
            encoder(new, device),
            encoder(model, device) if model else None,
            fit_pairs,
            baselines=baselines,
            num_vectors=num_vectors,
            price_per_hour=price_per_hour,
            added_dim=added_dim,
            batch_size=batch_size,
            seed=seed,
        )
        typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else report_text(report))
    if strict and report.verdict != BETTER:
        raise typer.Exit(1)


@app.command("status")
def status_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a CompatibleIndex.")],
) -> None:
    """Show how far an index is on its way, beside whatever process is writing to it."""
    with one_line_errors():
        from eigenhub.models.bt2.index import CompatibleIndex

        with CompatibleIndex.open(folder, read_only=True) as index:
            status = index.status()
    for encoder_name, count in status.per_generation.items():
        typer.echo(f"{encoder_name}: {count:,} of {status.total:,} items")
    typer.echo(
        f"backfilled: {status.share:.1%}; old_scale {status.old_scale:g}; {status.disk_bytes / 1e6:,.1f} MB on disk"
    )
    if status.retrain_due:
        typer.echo("the centroids have not seen the new coordinates: call retrain()")


def encoder(name: str, device: str | None) -> "SentenceTransformer":
    """A model of sentence-transformers or of this package."""
    from eigenhub.models.bt2.text_loading import load_sentence_transformer

    return load_sentence_transformer(name, device=device)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors about the user's input into one line and exit code 2; others keep their traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error


def _how_to_use(folder: Path, model: Any, folds: bool) -> str:
    from eigenhub.models.bt2.text_module import basis_transformation

    old_dim = basis_transformation(model).old_dim
    load = "SentenceTransformer" if folds else "eigenhub.models.bt2.load_sentence_transformer"
    return (
        f"wrote {folder}: {load}({str(folder)!r}), {model.get_embedding_dimension()} dimensions\n"
        f"  queries for the old index:      encode(texts, truncate_dim={old_dim})\n"
        f"  queries and items of a new one: encode(texts)"
    )
