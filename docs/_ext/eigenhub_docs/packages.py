# SPDX-License-Identifier: Apache-2.0
"""What of eigenhub a reader may import, read from the sources without importing them."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import griffe


ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Entry:
    """One public name where it is documented: its full name there, and what it is."""

    full_name: str
    object: griffe.Object

    @property
    def name(self) -> str:
        return self.full_name.rsplit(".", 1)[-1]


@dataclass
class Package:
    """A package, what it exports, and what its modules hold beside that.

    Args:
        name (`str`): dotted name.
        module (`griffe.Module`): its sources.
        entries (`list[Entry]`): exported names that are documented here.
        elsewhere (`dict[str, str]`): exported names that another page documents, with their full names there.
        modules (`dict[str, list[Entry]]`): public names of its modules that no package exports.
    """

    name: str
    module: griffe.Module
    entries: list[Entry] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)
    modules: dict[str, list[Entry]] = field(default_factory=dict)

    @property
    def exports(self) -> bool:
        """Whether it exports names; otherwise its modules are what one imports from."""
        return bool(self.entries or self.elsewhere)


class Library:
    """All public names of the library, each with the one place where it is documented."""

    def __init__(self, name: str = "eigenhub", folder: Path = ROOT / "src"):
        self.root = griffe.load(name, search_paths=[folder], try_relative_path=False)
        self.packages = {module.path: Package(module.path, module) for module in self._packages(self.root)}
        self._collect_exports()
        self._collect_modules()

    def _packages(self, module: griffe.Module) -> list[griffe.Module]:
        below = [m for m in module.modules.values() if not m.is_alias and m.is_init_module]
        return [module, *(inner for m in below for inner in self._packages(m))]

    def _collect_exports(self) -> None:
        """A name is documented in the package closest above its definition that exports it, or else in the first that does."""
        self.homes: dict[str, str] = {}
        exported = [
            (f"{package.name}.{name}", self.definition(package.module, name), package)
            for package in self.packages.values()
            for name in sorted(_exports(package.module), key=str.lower)
        ]
        # the deepest package first, then those that only pass a name on
        for here, path, package in sorted(exported, key=lambda export: -len(export[2].name)):
            if path.startswith(f"{package.name}."):
                self.homes.setdefault(path, here)
        for here, path, package in exported:
            home = self.homes.setdefault(path, here)
            if home == here:
                package.entries.append(Entry(here, self.root.modules_collection[path]))
            else:
                package.elsewhere[here.rpartition(".")[2]] = home

    def _collect_modules(self) -> None:
        for package in self.packages.values():
            for name, module in sorted(package.module.modules.items()):
                if module.is_alias or module.is_init_module or name.startswith("_"):
                    continue
                own = [member for member in module.members.values() if self._is_public(member)]
                own.sort(key=lambda member: member.lineno or 0)
                package.modules[module.path] = [Entry(member.path, member) for member in own]

    def _is_public(self, member: griffe.Object | griffe.Alias) -> bool:
        """Defined where it stands, of a kind that is documented, and not exported by a package."""
        if member.is_alias or member.name.startswith("_") or member.path in self.homes:
            return False
        return member.is_class or member.is_function or (member.name.isupper() and member.is_attribute)

    def definition(self, package: griffe.Module, name: str) -> str:
        """Path of what a package exports under a name, which may also be the name of one of its modules."""
        found = self.root.modules_collection[package.imports.get(name, f"{package.path}.{name}")]
        return found.final_target.path if found.is_alias else found.path

    @cached_property
    def documented(self) -> dict[str, str]:
        """Where each path of definition or of export leads: to a full name on the site, or to a line of a source."""
        names: dict[str, str] = {}
        for package in self.packages.values():
            for module, entries in package.modules.items():
                here = {module: self.root.modules_collection[module]} | {
                    entry.full_name: entry.object for entry in entries
                }
                names |= {path: source_of(found) if package.exports else path for path, found in here.items()}
        for module in [name for package in self.packages.values() for name in package.modules]:
            found = self.root.modules_collection[module]
            for name in _exports(found):  # of a module that passes on what others define
                names.setdefault(f"{module}.{name}", names.get(self.definition(found, name), module))
        names |= self.homes | {home: home for home in self.homes.values()}
        for package in self.packages.values():
            names |= {f"{package.name}.{name}": home for name, home in package.elsewhere.items()}
            names |= {package.name: package.name} if package.exports or package.modules else {}
        return names

    @cached_property
    def by_short_name(self) -> dict[str, str]:
        """Where a last part leads, if that says which one is meant."""
        found: dict[str, set[str]] = {}
        for path, place in self.documented.items():
            found.setdefault(path.rsplit(".", 1)[-1], set()).add(place)
        return {name: places.pop() for name, places in found.items() if len(places) == 1}

    def resolve(self, name: str, scope: griffe.Object) -> str | None:
        """Where `name` leads in a docstring of `scope`: a full name on the site, a path to a source, or nowhere."""
        head, _, member = name.partition(".")
        for path in (name, *self._in_scope(head, member, scope)):
            if path in self.documented:
                return self.documented[path]
            owner, _, last = path.rpartition(".")
            if owner in self.documented and self._has_member(owner, last):
                place = self.documented[owner]
                return place if "/" in place else f"{place}.{last}"
        return None

    def _in_scope(self, head: str, member: str, scope: griffe.Object) -> list[str]:
        tail = f".{member}" if member else ""
        found = [f"{scope.path}.{head}{tail}"] if scope.is_class else []
        if scope.parent is not None and scope.parent.is_class:
            found.append(f"{scope.parent.path}.{head}{tail}")
        try:
            found.append(scope.resolve(head) + tail)
        except griffe.NameResolutionError:
            pass
        if head in self.by_short_name:
            found += [path + tail for path in self.documented if path.rsplit(".", 1)[-1] == head]
        return found

    def _has_member(self, owner: str, name: str) -> bool:
        path = next((path for path, home in self.homes.items() if home == owner), owner)
        if path not in self.root.modules_collection:
            return False
        found = self.root.modules_collection[path]
        return found.is_class and name in {member.name for member in public_members(found)}


def source_of(found: griffe.Object) -> str:
    """Link from a page of the reference to the line where something is defined."""
    path = found.filepath.relative_to(ROOT).as_posix()
    return f"../../{path}#L{found.lineno}" if found.lineno else f"../../{path}"


def public_members(cls: griffe.Class) -> list[griffe.Object]:
    """Methods and properties of a class that are told on its page: those with a docstring of their own."""
    return [
        member
        for name, member in cls.members.items()
        if not member.is_alias and not name.startswith("_") and member.has_docstring
        if member.is_function or "property" in member.labels
    ]


def _exports(module: griffe.Module) -> list[str]:
    """Names in `__all__`, without those of other libraries that a module passes on."""
    names = [str(name) for name in module.exports or []]
    return [name for name in names if module.imports.get(name, module.path).split(".")[0] == module.path.split(".")[0]]
