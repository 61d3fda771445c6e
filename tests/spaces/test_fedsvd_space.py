# SPDX-License-Identifier: Apache-2.0
"""The Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

import re
import time

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.spaces.checks import check_command_opens_page, serving, slide
from tests.spaces.tiny_lora import save_lora
from tests.support.browser import DESKTOP, visit
from tests.support.devices import require_chromium
from tests.support.hub_server import run_client


ADAPTER, EMPTY = "tester/fedsvd-lora", "tester/fedsvd-pickled"
A_RUN = 240_000  # milliseconds, with the embedded model trained before it, on a busy machine
PUSH = f"""
from huggingface_hub import HfApi
from tests.spaces.tiny_lora import save_lora
api = HfApi()
for name, weights in (({ADAPTER!r}, "adapter_model.safetensors"), ({EMPTY!r}, "adapter_model.bin")):
    save_lora("adapter", weights=weights, with_run=True)
    api.create_repo(name)
    for file in ("adapter_config.json", weights, "fedsvd_config.json", "privacy_ledger.json"):
        api.upload_file(path_or_fileobj=f"adapter/{{file}}", path_in_repo=file, repo_id=name)
"""
SMALL = {"clients": 3, "rounds": 2, "steps": 2}


class TestFedSVDSpace(SpaceTester):
    slug = "fedsvd"
    api_names = ("/federate", "/pair", "/split", "/inspect", "/refactor")

    @classmethod
    def prepare(cls, server, scratch):
        run_client(PUSH, server, scratch / "author", block=())
        cls.scratch = scratch
        cls.file = save_lora(scratch / "adapter") / "adapter_model.safetensors"

    @property
    def api_calls(self):
        return (
            ApiCall("/split", (4, 100.0), lambda counts: sum(map(sum, counts.values())) == 1200 and len(counts) == 4),
            ApiCall("/federate", ("fedavg",), is_finished_run, SMALL),
            ApiCall("/pair", (), lambda found: len(found["distance"]) == 2 and found["distance"][1] < 1e-5, SMALL),
            ApiCall("/inspect", (ADAPTER,), is_adapter_with_ledger),
            ApiCall("/refactor", (handle_file(str(self.file)),), is_refactored),
        )

    def browse(self, page):
        expect(page.locator("#split-plot img")).to_be_visible(timeout=A_RUN)
        before = page.locator("#split-plot img").get_attribute("src")
        slide(page, "#alpha", 2)
        expect(page.locator("#split-plot img")).not_to_have_attribute("src", before)
        for place, value in {"#clients": 3, "#rounds": 2, "#steps": 2}.items():
            slide(page, place, value)
        self.run_privately(page)
        self.run_openly(page)
        self.run_pair(page)
        page.get_by_role("tab", name="Compare runs").click()
        expect(page.locator("#compare-table tbody tr")).to_have_count(4)
        page.get_by_label("what the clients have sent").check()
        self.refactor(page)
        page.get_by_role("tab", name="Train together").click()  # for the picture

    @staticmethod
    def run_privately(page):
        page.locator("#private input").check()
        page.locator("#start").click()
        expect(page.locator("#run-status")).to_contain_text("Finished: FedSVD", timeout=A_RUN)
        expect(page.locator("#run-summary")).to_contain_text("hidden")
        expect(page.locator("#privacy")).to_contain_text("differential privacy of each client's data")
        expect(page.locator("#privacy")).to_contain_text("The curves of single clients are hidden")
        expect(page.locator("#epsilon-plot img")).to_be_visible()
        expect(page.locator("#files")).to_contain_text("privacy_l")

    @staticmethod
    def run_openly(page):
        page.locator("#private input").uncheck()
        page.locator("#start").click()
        expect(page.locator("#privacy")).to_contain_text("No privacy is claimed", timeout=A_RUN)
        expect(page.locator("#run-status")).to_contain_text("Finished", timeout=A_RUN)
        expect(page.locator("#run-summary")).to_contain_text("on rows it has kept")
        expect(page.locator("#epsilon-plot")).to_be_hidden()
        before = page.locator("#singular-plot img").get_attribute("src")
        page.locator("#layer").get_by_label("layer 1, v_proj").check()
        expect(page.locator("#singular-plot img")).not_to_have_attribute("src", before)

    @staticmethod
    def run_pair(page):
        page.locator("#start-pair").click()
        status = page.locator("#pair-status")
        expect(status).to_contain_text("After 2 rounds", timeout=A_RUN)
        expect(status).to_contain_text("the SVD has changed the basis of A and nothing else")
        expect(page.locator("#distance-plot img")).to_be_visible()

    def refactor(self, page):
        page.get_by_role("tab", name="Refactor").click()
        summary, origin = page.locator("#refactor-summary"), page.locator("#provenance")
        expect(origin).to_contain_text("Federated by FedAvg-LoRA: 8 rounds", timeout=A_RUN)
        page.locator("#mine").click()
        expect(origin).to_contain_text("Federated by FFA-LoRA, A orthonormal: 2 rounds")
        page.get_by_label("LoRA adapter", exact=True).fill(ADAPTER)
        page.get_by_label("LoRA adapter", exact=True).press("Enter")
        expect(origin).to_contain_text("As its ledger says, which is not verified here")
        page.get_by_text("Or upload adapter_model.safetensors").click()
        page.locator("#upload input[type=file]").set_input_files(self.file)
        expect(origin).to_contain_text("A file alone")
        expect(summary).to_contain_text("2 to 4")
        with page.expect_download() as download:
            page.locator("#refactored a").first.click()
        assert download.value.suggested_filename == "adapter_model.safetensors"

    def test_a_run_is_told_while_it_goes_on(self, space):
        job = Client(space.url, verbose=False).submit("ffa", clients=2, rounds=3, steps=1, api_name="/federate")
        job.result(timeout=120)
        assert [len(record["participants"]) for record in job.outputs()] == [0, 1, 2, 3]

    @require_chromium
    def test_stop_ends_the_run_and_its_work(self, space):
        with visit(space.url, DESKTOP) as seen:
            self.start_long_run(seen.page)
            seen.page.locator("#stop").click()
            expect(seen.page.locator("#run-status")).to_contain_text("Stopped after round", timeout=A_RUN)
            assert is_idle(space.url), "it computes on"
            expect(seen.page.locator("#run-status")).to_contain_text("Stopped after round")
        seen.assert_clean()

    @require_chromium
    def test_a_page_that_is_closed_computes_no_more(self, space):
        with visit(space.url, DESKTOP) as seen:
            self.start_long_run(seen.page)
        deadline = time.monotonic() + 60
        while not is_idle(space.url):
            assert time.monotonic() < deadline, "it computes on"
        with visit(space.url, DESKTOP) as seen:  # and the next visitor need not wait
            slide(seen.page, "#rounds", 1)
            seen.page.locator("#start").click()
            expect(seen.page.locator("#run-status")).to_contain_text("Finished", timeout=A_RUN)

    @staticmethod
    def start_long_run(page):
        slide(page, "#rounds", 40)
        page.locator("#start").click()
        expect(page.locator("#run-status")).to_contain_text(re.compile("Round . of 40"), timeout=A_RUN)

    @require_chromium
    @pytest.mark.parametrize(
        ("name", "said"),
        [("nobody/nothing", "Cannot load 'nobody/nothing'"), (EMPTY, "pickled weights are not opened")],
    )
    def test_an_adapter_that_cannot_be_read_is_named_on_the_page(self, space, name, said):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            page.get_by_role("tab", name="Refactor").click()
            expect(page.locator("#refactor-summary")).to_contain_text("Effective rank", timeout=A_RUN)
            page.get_by_label("LoRA adapter", exact=True).fill(name)
            page.get_by_label("LoRA adapter", exact=True).press("Enter")
            expect(page.locator(".toast-body.error")).to_contain_text(said)
        seen.assert_clean()


def is_finished_run(record):
    assert record["finished"] and len(record["accuracy"]) == 3 and record["averaging_error"][0] > 1e-3
    assert record["upload_bytes"] == record["plain_upload_bytes"] and "files" not in record
    return set(record["client_accuracy"]) == {"client 1", "client 2", "client 3"}


def is_adapter_with_ledger(found):
    assert found["run"]["method"] == "ffa" and found["lora"]["r"] == 4
    (row,) = found["ledger"]
    assert row["client"] == "clinic" and row["epsilon"] == 2.5 and "epsilon = 2.5" in found["claim"]
    return [layer["effective_rank"] for layer in found["layers"]] == [4, 2]


def is_refactored(answer):
    file, layers = answer
    assert file.endswith("adapter_model.safetensors")
    return all(layer["kappa"] > 1.01 > layer["new_kappa"] and layer["error"] < 1e-6 for layer in layers)


def is_idle(url):
    """Whether the process behind an address does next to nothing for three seconds."""
    process = serving(url)
    before = sum(process.cpu_times()[:2])
    time.sleep(3)
    return sum(process.cpu_times()[:2]) - before < 1


def test_the_command_opens_the_page():
    check_command_opens_page("fedsvd", "Federated LoRA, counted honestly")
