# SPDX-License-Identifier: Apache-2.0
"""The Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

import time

import pytest
from gradio_client import Client
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.spaces.checks import check_command_opens_page, serving
from tests.support.browser import DESKTOP, visit
from tests.support.devices import require_chromium
from tests.support.hub_server import run_client


MODEL = "tester/dct-llama"
FIRST_TIME = 240_000  # milliseconds in which the embedded model is trained, on a busy machine
A_RACE = 240_000
PUSH = f"""
from tests.support.models import tiny_llama, tiny_tokenizer
tiny_llama().push_to_hub({MODEL!r})
tiny_tokenizer().push_to_hub({MODEL!r})
"""


class TestDctSpace(SpaceTester):
    slug = "dct"
    api_names = ("/energy", "/race", "/memory", "/check_memory", "/brake")
    api_calls = (
        ApiCall("/energy", (MODEL,), lambda answer: answer["shape"] == [16, 16] and answer["width"] == 16),
        ApiCall("/energy", (MODEL, "", "gradient", "right", 2), lambda answer: answer["curves"]["svd"][-1] > 0.999),
        ApiCall("/race", (["AdamW"], []), lambda rows: is_finished_race(rows), {"steps": 10}),
        ApiCall("/memory", ("llama_60m", 128), lambda rows: rows[0]["optimizer"] == "AdamW"),
        ApiCall("/memory", (MODEL, 0.25, "bfloat16"), lambda rows: len(rows) == 12),
        ApiCall("/check_memory", (MODEL, 4), lambda answer: all(row["equal"] for row in answer[1])),
        ApiCall("/brake", (), lambda answer: 1 < answer["rho"] < 1.0006),
    )

    @classmethod
    def prepare(cls, server, scratch):
        run_client(PUSH, server, scratch / "author", block=())

    def browse(self, page):
        expect(page.locator("#energy-verdict")).to_contain_text("With r = 32 of 128", timeout=FIRST_TIME)
        expect(page.locator("#energy-plot img")).to_be_visible()
        page.get_by_label("momentum of 20 gradients").check()
        expect(page.locator("#energy-table")).to_contain_text("coordinate axes")
        page.get_by_label("Model", exact=True).fill(MODEL)
        page.get_by_label("Model", exact=True).press("Enter")
        expect(page.locator("#energy-verdict")).to_contain_text("With r = 4 of 16", timeout=FIRST_TIME)
        self.race(page)
        page.get_by_role("tab", name="Memory").click()
        expect(page.locator("#memory-summary")).to_contain_text("368 M")
        page.locator("#check").click()
        expect(page.locator("#check-verdict")).to_contain_text("hold exactly the bytes of their formula")
        expect(page.locator("#check-table")).not_to_contain_text("no")
        page.get_by_label("Architecture").fill(MODEL)
        page.get_by_label("Architecture").press("Enter")
        expect(page.locator("#memory-summary")).to_contain_text("llama; 6")
        page.get_by_role("tab", name="AuON").click()
        expect(page.locator("#brake-summary")).to_contain_text("1 + 0.00027")
        page.get_by_label("a single entry").check()
        expect(page.locator("#brake-summary")).to_contain_text("1 + 0.00055")
        expect(page.locator("#singular-plot img")).to_be_visible()
        page.get_by_role("tab", name="Race").click()  # for the picture

    @staticmethod
    def race(page):
        page.get_by_role("tab", name="Race").click()
        page.get_by_label("number input for Steps").fill("20")
        page.get_by_label("number input for Steps").press("Tab")
        page.locator("#start").click()
        expect(page.locator("#race-status")).to_contain_text("Finished after 20 steps", timeout=A_RACE)
        expect(page.locator("#race-plot svg")).to_be_visible()
        expect(page.locator("#standings tr")).to_have_count(7)

    def test_a_race_is_told_while_it_runs(self, space):
        job = Client(space.url, verbose=False).submit(["frozen (control)", "AuON"], [], steps=30, api_name="/race")
        job.result(timeout=120)
        told = [len(rows[0]["losses"]) for rows in job.outputs()]
        assert len(told) > 3 and told[0] < told[1] < told[-1] == 30

    @require_chromium
    def test_stop_ends_the_race_and_its_work(self, space):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            page.get_by_role("tab", name="Race").click()
            page.get_by_label("number input for Steps").fill("300")
            page.get_by_label("number input for Steps").press("Tab")
            page.locator("#start").click()
            expect(page.locator("#race-status")).to_contain_text("of 300", timeout=A_RACE)
            page.locator("#stop").click()
            expect(page.locator("#race-status")).to_contain_text("Stopped after step")
            standings = page.locator("#standings").inner_text()
            process = serving(space.url)
            before = sum(process.cpu_times()[:2])
            time.sleep(3)
            assert sum(process.cpu_times()[:2]) - before < 1, "it computes on"
            assert page.locator("#standings").inner_text() == standings
            expect(page.locator("#race-status")).to_contain_text("Stopped after step")
            page.get_by_label("number input for Steps").fill("10")
            page.get_by_label("number input for Steps").press("Tab")
            page.locator("#start").click()
            expect(page.locator("#race-status")).to_contain_text("Finished after 10 steps", timeout=A_RACE)
        seen.assert_clean()

    @require_chromium
    @pytest.mark.parametrize("name", ["nobody/nothing", "/no/such/folder"])
    def test_a_model_that_is_not_there_is_named_on_the_page(self, space, name):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            expect(page.locator("#energy-verdict")).to_contain_text("With r", timeout=FIRST_TIME)
            page.get_by_label("Model", exact=True).fill(name)
            page.get_by_label("Model", exact=True).press("Enter")
            expect(page.locator(".toast-body.error")).to_contain_text(f"Cannot load '{name}'")
        seen.assert_clean()


def is_finished_race(rows):
    (row,) = rows
    return row["name"] == "AdamW" and len(row["losses"]) == 10 and row["held_out_loss"] < row["losses"][0]


def test_the_command_opens_the_page():
    check_command_opens_page("dct", "Optimizers without SVD")
