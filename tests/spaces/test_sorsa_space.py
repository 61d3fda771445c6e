# SPDX-License-Identifier: Apache-2.0
"""The Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

import re
import zipfile

from gradio_client import handle_file
from PIL import Image
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.spaces.checks import check_command_opens_page
from tests.support.hub_server import run_client


BASE, ADAPTER = "tester/space-llama", "tester/space-llama-sorsa"
DIGITS = "embedded:digits"
FIRST_TIME = 180_000  # milliseconds in which the embedded base and adapter are trained, on a busy machine


class TestSorsaSpace(SpaceTester):
    slug = "sorsa"
    api_names = ("/inspect", "/classify", "/generate", "/export")

    @classmethod
    def prepare(cls, server, scratch):
        code = f"from tests.spaces.tiny_pairs import push_text_pair\npush_text_pair({BASE!r}, {ADAPTER!r})\n"
        run_client(code, server, scratch / "author", block=())
        cls.picture = scratch / "digit.png"
        Image.new("L", (20, 30), 128).save(cls.picture)

    @property
    def api_calls(self):
        picture = handle_file(str(self.picture))
        return (
            ApiCall("/inspect", (BASE, ADAPTER), is_report_of_llama),
            ApiCall("/inspect", ("", ADAPTER), is_report_of_llama),
            ApiCall("/generate", (BASE, ADAPTER, "the cat", 4), are_texts),
            ApiCall("/classify", (DIGITS, DIGITS, picture), are_digits),
            ApiCall("/export", (BASE, ADAPTER, 3), is_lora_of_rank(3)),
        )

    def browse(self, page):
        expect(page.locator("#summary")).to_contain_text("ViTForImageClassification", timeout=FIRST_TIME)
        expect(page.locator("#values-plot img")).to_be_visible()
        page.locator("#table").get_by_text("vit.layers.1.attention.k_proj").first.click()
        expect(page.locator("#module input")).to_have_value("vit.layers.1.attention.k_proj")
        page.get_by_role("tab", name="Export").click()
        page.locator("#export").click()
        expect(page.locator("#export-verdict")).to_contain_text("is exact")
        page.get_by_role("tab", name="Compare").click()
        self.draw_a_seven(page)
        page.get_by_role("button", name="Use this drawing").click()
        expect(page.locator("#image-verdict")).to_contain_text("The adapter")
        page.get_by_text("Draw one", exact=True).click()
        page.get_by_role("button", name="Thumbnail 8 of 10").click()
        expect(page.locator("#image-verdict")).to_contain_text(re.compile(r"(to|at) 7\."))
        page.get_by_label("Base model").fill(BASE)
        page.get_by_label("SORSA adapter").fill(ADAPTER)
        page.get_by_label("SORSA adapter").press("Enter")
        page.locator("#inspect").click()
        expect(page.locator("#summary")).to_contain_text("LlamaForCausalLM")
        page.locator("#prompt textarea").fill("the cat")
        page.locator("#generate").click()
        expect(page.locator("#text-verdict")).to_contain_text("the same text as with the adapter on")
        page.get_by_label("Base model").fill(DIGITS)
        page.get_by_label("SORSA adapter").fill(DIGITS)
        page.get_by_label("SORSA adapter").press("Enter")
        page.locator("#inspect").click()
        expect(page.locator("#summary")).to_contain_text("ViTForImageClassification")
        page.get_by_role("button", name="Thumbnail 3 of 10").click()
        expect(page.locator("#image-verdict")).to_contain_text(re.compile(r"(to|at) 2\."))

    @staticmethod
    def draw_a_seven(page):
        page.get_by_text("Draw one", exact=True).click()
        page.get_by_role("button", name="Brush").click()
        box = page.locator("#sketch canvas").first.bounding_box()
        corners = [(0.35, 0.25), (0.62, 0.25), (0.5, 0.75)]
        places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=10)
        page.mouse.up()


def is_report_of_llama(records):
    assert [record["module"].split(".")[-1] for record in records] == ["q_proj", "v_proj"] * 2
    return all(len(record["s_before"]) == record["rank"] == 4 for record in records)


def are_texts(answer):
    off, on, merged, sentence = answer
    assert on == merged != off
    return "changes the text" in sentence


def are_digits(answer):
    *labels, sentence = answer
    assert all({entry["label"] for entry in label["confidences"]} <= set("0123456789") for label in labels)
    return sentence.startswith("The adapter")


def is_lora_of_rank(rank):
    def check(answer):
        file, sentence = answer
        assert set(zipfile.ZipFile(file).namelist()) >= {"adapter_config.json", "adapter_model.safetensors"}
        return f"Rank {rank} keeps" in sentence

    return check


def test_the_command_opens_the_page():
    check_command_opens_page("sorsa", "SORSA under the lens")
