# SPDX-License-Identifier: Apache-2.0
"""Common tests of a Space.

class TestSorsaSpace(SpaceTester):
    slug = "sorsa"
    api_names = ("/inspect", "/compare")
    api_calls = (ApiCall("/inspect", ("embedded",), lambda rows: len(rows) == 4),)

    def browse(self, page):
        page.get_by_role("button", name="Inspect").click()
        expect(page.locator("#summary")).to_contain_text("κ")
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from gradio_client import Client
from huggingface_hub import SpaceCard, SpaceCardData
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.browser import DESKTOP, PHONE, visit
from tests.support.devices import require_chromium
from tests.support.hub_server import HubServer
from tests.support.processes import ROOT
from tests.support.spaces import RunningSpace, running_space


COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
REQUIRED = ("title", "emoji", "license", "models", "python_version", "sdk_version", "short_description", "tags")
SCREENSHOTS = ROOT / "runs" / "screenshots"


@dataclass(frozen=True)
class ApiCall:
    """One call of a named endpoint.

    Args:
        api_name (`str`):
            Name with its slash.
        arguments (`tuple`):
            Positional arguments.
        check (`Callable`):
            Judges the answer: raises, or returns whether it is right.
        keywords (`Mapping[str, Any]`, *optional*, defaults to `{}`):
            Named arguments.
    """

    api_name: str
    arguments: tuple[Any, ...]
    check: Callable[[Any], bool]
    keywords: Mapping[str, Any] = field(default_factory=dict)


def pinned_version(package: str) -> str:
    """Version of the constraints file with which everything is tested."""
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def requirement_lines(folder: Path) -> list[Requirement]:
    lines = (line.partition(" #")[0].strip() for line in (folder / "requirements.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


class SpaceTester:
    """Base of the tests of one Space; subclasses are collected, this class is not.

    Attributes:
        slug (`str`): folder below `spaces/`, and first part of the screenshots' names.
        api_names (`tuple[str, ...]`): all public named endpoints.
        api_calls (`tuple[ApiCall, ...]`): calls with known answers, at least one per endpoint.
        environment (`Mapping[str, str]`): variables for the app, such as a switch to a tiny model.
    """

    slug: ClassVar[str]
    api_names: ClassVar[tuple[str, ...]]
    api_calls: ClassVar[tuple[ApiCall, ...]]
    environment: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def folder(cls) -> Path:
        return ROOT / "spaces" / cls.slug

    @classmethod
    def prepare(cls, server: HubServer, scratch: Path) -> None:
        """Push what the calls and the browser steps name by Hub id; nothing by default."""

    @classmethod
    def card(cls) -> SpaceCardData:
        return SpaceCard.load(cls.folder() / "README.md").data

    def browse(self, page: Any) -> None:
        """Use the page as a visitor does, with playwright's `expect` for what must appear."""
        raise NotImplementedError("a Space is looked at: give the steps of a visitor")

    @pytest.fixture(scope="class")
    @classmethod
    def space(cls, hub_server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSpace]:
        scratch = tmp_path_factory.mktemp(f"space-{cls.slug}")
        cls.prepare(hub_server, scratch)
        app_file = cls.card().app_file or "app.py"
        with running_space(cls.folder(), hub_server, scratch, app_file, cls.environment) as space:
            yield space

    def test_front_matter(self) -> None:
        card = self.card()
        missing = [key for key in REQUIRED if card.get(key) is None]
        assert not missing, f"the front matter lacks {missing}"
        assert card.sdk == "gradio"
        assert card.app_file and (self.folder() / card.app_file).is_file(), f"no app_file {card.app_file!r}"
        assert card.sdk_version == pinned_version("gradio"), "sdk_version is not the pinned gradio"
        assert isinstance(card.python_version, str), "quote python_version: YAML reads 3.10 as 3.1"
        assert Version(card.python_version) >= Version("3.11"), f"python_version {card.python_version} is too old"
        assert {card.get("colorFrom"), card.get("colorTo")} <= set(COLORS), f"colours must be among {COLORS}"
        assert len(card.get("short_description")) <= 60, "short_description has more than 60 characters"
        assert card.tags and all(isinstance(tag, str) for tag in card.tags), "tags must name the method"
        strange = [name for name in card.models if not re.fullmatch(r"[\w.-]+/[\w.-]+", name)]
        assert not strange, f"models must be Hub ids, got {strange}"

    def test_requirements(self) -> None:
        names = {requirement.name.lower() for requirement in requirement_lines(self.folder())}
        assert "gradio" not in names, "sdk_version installs gradio; requirements.txt must not"
        assert "eigenhub" in names, "requirements.txt does not install eigenhub"

    def test_import_builds_the_demo(self, space: RunningSpace) -> None:
        report = space.report
        assert report["builds"], f"`demo` must be gradio Blocks, found {report['demo']}"
        assert not report["launched"], "the import launched the app; launch under `if __name__ == '__main__'`"
        assert not report["outside"], f"the import touched the network: {report['outside']}"
        assert not report["hub_requests"], f"the import asked the Hub: {report['hub_requests']}"

    def test_api_names(self, space: RunningSpace) -> None:
        client = Client(space.url, verbose=False)
        found = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
        expected = set(self.api_names)
        assert found == expected, f"missing endpoints {expected - found}, unexpected ones {found - expected}"

    @pytest.mark.browser  # beside the tests that need the running page as well
    def test_api_answers(self, space: RunningSpace, tmp_path: Path) -> None:
        uncalled = set(self.api_names) - {call.api_name for call in self.api_calls}
        assert not uncalled, f"no ApiCall for {uncalled}"
        client = Client(space.url, verbose=False, download_files=tmp_path)
        for call in self.api_calls:
            answer = client.predict(*call.arguments, api_name=call.api_name, **call.keywords)
            assert call.check(answer) is not False, f"{call.api_name}{call.arguments} answered {answer!r}"
        assert not space.outside, f"the app tried to leave the loopback interface: {space.outside}"

    @require_chromium
    @pytest.mark.parametrize(("device", "viewport"), [("desktop", DESKTOP), ("phone", PHONE)])
    def test_browser(self, space: RunningSpace, device: str, viewport: dict[str, int]) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        with visit(space.url, viewport) as seen:
            self.browse(seen.page)
            seen.page.screenshot(path=SCREENSHOTS / f"{self.slug}-{device}.png", full_page=True)
            toasts = seen.page.locator(".toast-body.error").all_inner_texts()
        seen.assert_clean()
        assert not toasts, f"the app showed errors: {toasts}"
        assert not space.outside, f"the app tried to leave the loopback interface: {space.outside}"
