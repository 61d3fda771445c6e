# SPDX-License-Identifier: Apache-2.0
"""The `eigenhub` command. Only strings and typer load here; each command imports what it needs when it runs."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from inspect import Signature, signature
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from eigenhub import __version__
from eigenhub.hub.resources import GALLERY, find
from eigenhub.methods import METHODS, Method, get_method


class MethodGroups(TyperGroup):
    """The built-in commands plus one group per method with commands of its own, imported when it is entered."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *(m.slug for m in METHODS if m.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for method in METHODS:
            if method.slug == cmd_name and method.commands:
                return MethodGroup(method)
        return super().get_command(ctx, cmd_name)


class MethodGroup(TyperGroup):
    """Stands for a method's typer app: has its name and help at once, its commands after an import."""

    def __init__(self, method: Method):
        super().__init__(name=method.slug, help=f"Commands of {method.title} only.", no_args_is_help=True)
        self.method = method

    def _group(self) -> Any:
        return typer.main.get_group(load_object(str(self.method.commands)))

    def list_commands(self, ctx: Any) -> list[str]:
        return self._group().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self._group().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=MethodGroups,
    help="Spectral and orthogonal methods for the Hugging Face ecosystem.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WIDTH = 88
PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def load_object(path: str) -> Any:
    """Import what `"module:name"` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn errors about the user's input into one line and exit code 2; others keep their traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error


def known_method(slug: str) -> Method:
    """Parse a SLUG argument."""
    try:
        return get_method(slug)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Slug = Annotated[Method, typer.Argument(parser=known_method, metavar="SLUG", help="A method, see `eigenhub list`.")]


def run_python(*args: str) -> NoReturn:
    """Replace this process, so that signals and the exit code are the program's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *args])


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Spectral and orthogonal methods for the Hugging Face ecosystem."""


@app.command("list")
def list_methods(markdown: Annotated[bool, typer.Option(help="Print the table of the README.")] = False) -> None:
    """List the methods."""
    if markdown:
        from eigenhub.hub.methods_table import methods_table

        typer.echo(methods_table())
        return
    for method in METHODS:
        typer.echo(f"{method.slug:<12} {method.kind:<10} {method.summary}")


@app.command()
def info(method: Slug) -> None:
    """Show one method: paper, public names, and where its parts lie."""
    rows = {
        "title": method.title,
        "kind": f"{method.kind}, {method.status}",
        "what": method.summary,
        "paper": f"{method.paper}, https://arxiv.org/abs/{method.arxiv}",
        "import": import_statement(method),
    }
    with input_errors():
        rows |= {name: str(find(getattr(method, name))) for name in ("script_path", "space", "card", "results")}
    for label, text in rows.items():
        typer.echo(f"{label:<12} " + text.replace("\n", f"\n{'':13}"))


def import_statement(method: Method) -> str:
    """Code that imports all public names of a method, wrapped if they are many."""
    names = ", ".join(method.public_names)
    line = f"from {method.package} import {names}"
    if len(line) <= WIDTH:
        return line
    margin = " " * 4
    return f"from {method.package} import (\n{fill(names, WIDTH, initial_indent=margin, subsequent_indent=margin)},\n)"


@app.command(context_settings=PASS_THROUGH)
def demo(ctx: typer.Context, method: Slug = METHODS[0].slug) -> None:  # type: ignore[assignment]  # parsed from a string
    """Run a method's demo on embedded data; further flags go to it."""
    with input_errors():
        run_python(str(find(method.demo)), *ctx.args)


@app.command(context_settings=PASS_THROUGH)
def train(ctx: typer.Context) -> None:
    """Train under accelerate: `accelerate launch` with SLUG in place of the script.

    Usage: eigenhub train [LAUNCH FLAGS] SLUG [SCRIPT FLAGS]. For example `eigenhub train --num_processes 2 sorsa --help`.
    """
    run_python(*launch_arguments(ctx.args))


def launch_arguments(args: list[str]) -> list[str]:
    """The arguments of `python` for `eigenhub train ARGS`: the first argument that is a slug stands for its script."""
    slugs = [method.slug for method in METHODS]
    for i, arg in enumerate(args):
        if arg in slugs:
            script = str(find(get_method(arg).script_path))
            return ["-m", "accelerate.commands.launch", *args[:i], script, *args[i + 1 :]]
    raise typer.BadParameter(
        f"no method in {' '.join(args) or 'no arguments'!r}; allowed: {', '.join(slugs)}", param_hint="SLUG"
    )


def method_or_flag(text: str) -> Method | str:
    """Parse an optional SLUG argument in whose place a flag of the program may stand."""
    return text if text.startswith("-") else known_method(text)


OptionalSlug = Annotated[
    Any, typer.Argument(parser=method_or_flag, metavar="SLUG", show_default=False, help="A method; default: all.")
]


@app.command(context_settings=PASS_THROUGH)
def space(ctx: typer.Context, method: OptionalSlug = None) -> None:
    """Open a method's Space on this machine, or without SLUG the gallery of all; further flags go to its app."""
    if find_spec("gradio") is None:
        raise typer.BadParameter("gradio is missing: pip install 'eigenhub[spaces]'", param_hint="SLUG")
    folder = method.space if isinstance(method, Method) else GALLERY
    flags = [method, *ctx.args] if isinstance(method, str) else ctx.args
    with input_errors():
        run_python(str(find(folder) / "app.py"), *flags)


Private = Annotated[bool, typer.Option(help="Make a new repository private.")]


@app.command("publish-space")
def publish_space(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="A method, or `gallery`.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="The Space on the Hub, made if it is new.")],
    private: Private = False,
) -> None:
    """Push a method's Space to the Hub, or the gallery of all."""
    from eigenhub.hub import publish

    with input_errors():
        typer.echo(publish.publish_space(slug, repo_id, private=private or None))


@app.command()
def dataset(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A data set; without one they are listed.")
    ] = None,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder for parquet files and card.")] = None,
    push: Annotated[str | None, typer.Option(metavar="REPO_ID", help="Push to this repository instead.")] = None,
    private: Private = False,
) -> None:
    """Write or push a data set that the package makes, with its card."""
    from eigenhub.hub.datasets import dataset_slugs, get_dataset

    with input_errors():
        if name is None:
            for slug in dataset_slugs():
                typer.echo(f"{slug:<18} {get_dataset(slug).title}")
            return
        from eigenhub.hub.dataset_cards import push_dataset, save_dataset

        if push and folder is None:
            typer.echo(push_dataset(name, push, private=private or None))
        elif folder and push is None:
            typer.echo(save_dataset(name, folder))
        else:
            raise ValueError(f"give either DIR or --push REPO_ID; got DIR {folder} and --push {push}")


@app.command()
def card(
    target: Annotated[str, typer.Argument(metavar="SLUG|DIR", help="A method, or a folder of `save_pretrained`.")],
    repo_id: Annotated[str | None, typer.Option(help="Name of the model on the Hub.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Name of the base model on the Hub.")] = None,
    license: Annotated[
        str | None,
        typer.Option(help="Licence of the weights; by default what the README states, else the template's."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a README that somebody wrote.")] = False,
) -> None:
    """Print a method's model card, or write README.md into a saved folder."""
    from eigenhub.hub.cards import render_card, write_card

    slugs = [method.slug for method in METHODS]
    with input_errors():
        if target in slugs:
            typer.echo(str(render_card(target, repo_id=repo_id, base_model=base_model, license=license)))
        elif Path(target).is_dir():
            names = {"repo_id": repo_id, "base_model": base_model, "license": license}
            typer.echo(write_card(target, overwrite=overwrite, **names))
        else:
            raise ValueError(f"SLUG|DIR must be an existing folder or one of {', '.join(slugs)}; got {target!r}")


@app.command(context_settings=PASS_THROUGH)
def export(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `save_pretrained`.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
) -> None:
    """Convert a saved folder to a form that loads without this package; further flags depend on the method."""
    from eigenhub.hub.saved import read_saved

    with input_errors():
        method = read_saved(folder).method
        if method.exporter is None:
            raise ValueError(f"{folder} is a {method.title} model, which has no export")
        exporter = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        exporter.command()(exporter_command(load_object(method.exporter)))
        exporter(args=[str(folder), str(out), *ctx.args], prog_name="eigenhub export")


def exporter_command(function: Callable[..., Any]) -> Callable[..., None]:
    """An exporter as a typer function: two folders, then its own options as flags; prints its report."""

    def command(folder: Path, out: Path, **options: Any) -> None:
        report = function(str(folder), str(out), **options)
        for item in fields(report):
            value = getattr(report, item.name)
            if isinstance(value, str | int | float | Path):  # tables by module are for Python
                typer.echo(f"{item.name}: {value}")

    first_two = [p for name, p in signature(command).parameters.items() if name in ("folder", "out")]
    parameters = first_two + list(signature(function).parameters.values())[2:]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = (function.__doc__ or "").split("\n\n")[0]
    return command


def main() -> None:
    """Entry point of the `eigenhub` command."""
    app()


if __name__ == "__main__":
    main()
