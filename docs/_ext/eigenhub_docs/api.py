# SPDX-License-Identifier: Apache-2.0
"""Writes the API reference: one page per package, and one with the modules behind it, from the sources."""

from pathlib import Path

import griffe
from sphinx.application import Sphinx

from eigenhub_docs.docstrings import to_myst
from eigenhub_docs.packages import Entry, Library, Package, public_members, source_of


VARIADIC = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
LONGEST_VALUE = 80


def write_pages(app: Sphinx) -> None:
    """Bring the folder of generated pages up to date, touching what has changed only."""
    folder = Path(app.srcdir) / "reference"
    pages = {f"{name}.myst": text for name, text in reference_pages(Library()).items()}
    for path in folder.glob("*.myst"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def reference_pages(library: Library) -> dict[str, str]:
    """All pages of the reference by name, the list of them included."""
    pages = {}
    for package in library.packages.values():
        if package.exports:
            pages[package.name] = package_page(package, library)
            if any(package.modules.values()):
                pages[f"{package.name}.modules"] = sources_page(package, library)
        elif any(package.modules.values()):
            pages[package.name] = modules_page(package, library)
    pages["packages"] = list_page(library, pages)
    return pages


def package_page(package: Package, library: Library) -> str:
    """What a package exports."""
    lines = _top(package, library)
    if package.elsewhere:
        links = ", ".join(f"{{py:obj}}`{name} <{home}>`" for name, home in package.elsewhere.items())
        lines.append(f"Exported here too: {links}.")
    if any(package.modules.values()):
        lines.append(f"[What lies behind it](<{package.name}.modules.myst>), module by module.")
    return _join(lines + [describe(entry, library) for entry in package.entries])


def modules_page(package: Package, library: Library) -> str:
    """A package that exports nothing: one imports from its modules."""
    lines = _top(package, library)
    for module, entries in package.modules.items():
        found = library.root.modules_collection[module]
        lines += [f"## {module}", f"```{{py:module}} {module}\n```", _docstring(found, library)]
        lines += [describe(entry, library) for entry in entries]
    return _join(lines)


def sources_page(package: Package, library: Library) -> str:
    """What the modules of a package hold and the package does not export, by name, with a link to the source."""
    lines = [
        f"# Behind {package.name}",
        "What the modules of this package hold beside the names that it exports. It may be imported from where it stands, "
        "and may change more often than those.",
    ]
    for module, entries in package.modules.items():
        found = library.root.modules_collection[module]
        rows = [f"| [`{e.name}`](<{source_of(e.object)}>) | {_summary(e.object, library)} |" for e in entries]
        if rows:
            heading = [f"## {module}", _summary(found, library)]
            lines += [*heading, "\n".join(["| name | what it is |", "| --- | --- |", *rows])]
    return _join(lines)


def _top(package: Package, library: Library) -> list[str]:
    return [f"# {package.name}", f"```{{py:module}} {package.name}\n```", _docstring(package.module, library)]


def _summary(found: griffe.Object, library: Library) -> str:
    """First paragraph of a docstring, for a cell of a table."""
    return " ".join(_docstring(found, library).split("\n\n")[0].split()).replace("|", "\\|")


def list_page(library: Library, pages: dict[str, str]) -> str:
    rows = ["| package | what it is | names |", "| --- | --- | --- |"]
    for package in library.packages.values():
        if package.name in pages:
            names = len(package.entries) + len(package.elsewhere)
            summary = _summary(package.module, library)
            rows.append(f"| [`{package.name}`](<{package.name}.myst>) | {summary} | {names or 'by module'} |")
    main = [name for name in pages if not name.endswith(".modules")]
    more = [name for name in pages if name.endswith(".modules")]
    return _join(
        [
            "# All packages",
            "\n".join(rows),
            _toctree("Packages", main),
            _toctree("Modules behind them", more),
        ]
    )


def _toctree(caption: str, names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"])


def describe(entry: Entry, library: Library) -> str:
    """Directive with signature and docstring of one name."""
    found = entry.object
    if found.is_class:
        return _class(entry, library)
    if found.is_function:
        return _directive("py:function", entry.name + signature(found), found, [_told(found, library)], entry)
    value = str(found.value)
    options = [f":value: {value}"] if len(value) <= LONGEST_VALUE else []
    return _directive("py:data", entry.name, found, [_told(found, library)], entry, options)


def _class(entry: Entry, library: Library) -> str:
    found = entry.object
    parts = [_bases(found, library), _told(found, library)]
    parts += [_member(member, library) for member in public_members(found)]
    return _directive("py:class", entry.name + _init_signature(found), found, parts, entry, depth=2)


def _init_signature(cls: griffe.Class) -> str:
    init = cls.all_members.get("__init__")
    if init is None and "dataclass" not in cls.labels:
        return ""
    return f"({parameters(cls.parameters)})"


def _bases(cls: griffe.Class, library: Library) -> str:
    shown = []
    for base in cls.bases:
        shown.append(to_myst(f"[`{base}`]", lambda name: library.resolve(name, cls.parent)))
    return f"Bases: {', '.join(shown)}" if shown else ""


def _member(member: griffe.Object, library: Library) -> str:
    told = [_docstring(member, library)]
    if member.is_attribute:
        options = [f":type: {member.annotation}"] if member.annotation else []
        return _directive("py:property", member.name, member, told, options=options)
    kinds = [f":{kind}:" for kind in ("classmethod", "staticmethod") if kind in member.labels]
    return _directive("py:method", member.name + signature(member), member, told, options=kinds)


def signature(function: griffe.Function) -> str:
    returned = f" -> {function.returns}" if function.returns else ""
    return f"({parameters(function.parameters)}){returned}"


def parameters(found: griffe.Parameters) -> str:
    """Parameters as they stand in the source, without `self`."""
    shown: list[str] = []
    starred = False
    last = None
    for parameter in found:
        if parameter.name in ("self", "cls"):
            continue
        if last == griffe.ParameterKind.positional_only and parameter.kind != last:
            shown.append("/")
        if parameter.kind == griffe.ParameterKind.keyword_only and not starred:
            shown.append("*")
        starred |= parameter.kind in (griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional)
        shown.append(_parameter(parameter))
        last = parameter.kind
    return ", ".join(shown)


def _parameter(parameter: griffe.Parameter) -> str:
    text = VARIADIC.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not None:
        text += f": {_plain(parameter.annotation)}"
    if parameter.default is not None and parameter.kind not in VARIADIC:
        text += f" = {parameter.default}" if parameter.annotation is not None else f"={parameter.default}"
    return " ".join(text.split())


def _plain(annotation: griffe.Expr | str) -> str:
    """An annotation without what `Annotated` hangs on it for the command line."""
    text = str(annotation)
    if text.startswith("Annotated["):
        return str(annotation.slice.elements[0])
    return text


def _told(found: griffe.Object, library: Library) -> str:
    return f"{_docstring(found, library)}\n\n[Source](<{source_of(found)}>)"


def _docstring(found: griffe.Object, library: Library) -> str:
    if found.docstring is None:
        return ""
    return to_myst(found.docstring.value, lambda name: library.resolve(name, found))


def _directive(
    kind: str,
    head: str,
    found: griffe.Object,
    parts: list[str],
    entry: Entry | None = None,
    options: list[str] | None = None,
    depth: int = 1,
) -> str:
    fence = ":" * (3 + depth)
    options = list(options or [])
    if entry is None or entry.full_name == found.path:  # members, and what no package exports: not in the contents
        options.append(":no-contents-entry:")
    if entry is not None and entry.full_name != found.path:
        options.append(f":canonical: {found.path}")
    return "\n".join([f"{fence}{{{kind}}} {head}", *options, "", _join(parts).rstrip(), fence])


def _join(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_pages)
