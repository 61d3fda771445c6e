# SPDX-License-Identifier: Apache-2.0
"""The Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

import re

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.spaces.checks import check_command_opens_page, slide
from tests.spaces.tiny_facts import fill_cache
from tests.support.browser import DESKTOP, visit
from tests.support.devices import require_chromium
from tests.support.hub_server import run_client


WRITER, MASKED = "tester/writer", "tester/masked"
A_RUN = 240_000  # milliseconds, on a busy machine
PUSH = f"""
from transformers import BertConfig, BertForMaskedLM
from tests.support.models import tiny_llama, tiny_tokenizer
tiny_llama().push_to_hub({WRITER!r})
for name in ({WRITER!r}, {MASKED!r}):
    tiny_tokenizer().push_to_hub(name)
shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
BertForMaskedLM(BertConfig(**shape)).push_to_hub({MASKED!r})
"""
#: In the words of the tiny model.
PROMPTS = [f"the {word} sat on" for word in "cat dog sun mat park hen bun ten red hot".split()]
KNOWN = {"model": "embedded:base", "num_samples": 4}
SMALL = {"num_samples": 3, "max_new_tokens": 4, "temperature": 1.0, "top_k": 0}


class TestSendSpace(SpaceTester):
    slug = "send"
    api_names = ("/score", "/calibrate", "/train", "/embeddings")

    @classmethod
    def prepare(cls, server, scratch):
        run_client(PUSH, server, scratch / "author", block=())
        fill_cache(scratch / "eigenhub")
        cls.environment = {"EIGENHUB_HOME": str(scratch / "eigenhub")}
        cls.file = scratch / "questions.jsonl"
        cls.file.write_text("".join(f'{{"prompt": "{prompt}", "answer": "cat"}}\n' for prompt in PROMPTS))

    @property
    def api_calls(self):
        rows = [[0.9, 0.1, 0.0, 0.2], [0.8, 0.2, 0.1, 0.2], [0.1, 0.9, 0.7, 0.0]]
        return (
            ApiCall("/score", ("Ada Brook lives in:",), is_embedded_score, KNOWN),
            ApiCall("/score", (PROMPTS[0],), is_own_score, {"model": WRITER, **SMALL}),
            ApiCall("/calibrate", (), is_embedded_calibration, {**KNOWN, "questions": 60}),
            ApiCall(
                "/calibrate", (), is_own_calibration, {"model": WRITER, "prompts": PROMPTS, "quantile": 0.5, **SMALL}
            ),
            ApiCall("/train", ("random",), is_finished_pair, {"epochs": 4, "window": 2, "refresh_every": 1}),
            ApiCall("/embeddings", (rows,), lambda found: len(found["conventions"]) == 4 and found["shape"] == [3, 4]),
        )

    def browse(self, page):
        self.score_the_embedded(page)
        self.change_the_settings(page)
        self.bring_a_model(page)
        self.train(page)
        page.get_by_role("tab", name="Embeddings").click()
        page.locator("#score-matrix").click()
        expect(page.locator("#matrix-table tbody tr")).to_have_count(5, timeout=A_RUN)
        expect(page.locator("#matrix-plot img")).to_be_visible()
        page.get_by_role("tab", name="Score a prompt").click()  # for the picture

    @staticmethod
    def score_the_embedded(page):
        verdict, status = page.locator("#verdict"), page.locator("#calibration-status")
        expect(verdict).to_contain_text("of the calibration prompts", timeout=A_RUN)
        expect(verdict).to_contain_text("in a form that it was never told")
        expect(page.locator("#spectrum-plot img")).to_be_visible()
        expect(page.locator("#roc-plot img")).to_be_visible()
        expect(page.locator("#auroc-table tbody tr")).to_have_count(6)
        expect(status).to_contain_text("Youden's J")
        page.locator("#example-known").click()
        expect(verdict).to_contain_text("about someone it knows", timeout=A_RUN)
        expect(verdict).to_contain_text("of the calibration prompts")
        with page.expect_download() as download:
            page.locator("#scored-files a").first.click()
        assert download.value.suggested_filename == "scores.csv"

    @staticmethod
    def change_the_settings(page):
        verdict, status = page.locator("#verdict"), page.locator("#calibration-status")
        slide(page, "#count", 4)
        expect(status).to_contain_text("It no longer fits: K = 4, not 10")
        page.locator("#score").click()
        expect(verdict).to_contain_text("No verdict", timeout=A_RUN)
        expect(page.locator("#summary")).to_contain_text("no threshold fits")
        slide(page, "#questions", 60)
        page.locator("#calibrate").click()
        expect(status).to_contain_text("of 60 answers are wrong", timeout=A_RUN)
        expect(verdict).to_contain_text("of the calibration prompts")
        page.get_by_text("More settings").click()
        page.wait_for_timeout(500)  # gradio mounts what it unfolds and sets it once more: no hand is there sooner
        slide(page, "#longest", 4)
        expect(status).to_contain_text("longest answer = 4, not 16")

    def bring_a_model(self, page):
        model, status = page.get_by_label("Model", exact=True), page.locator("#calibration-status")
        model.fill(WRITER)
        model.press("Enter")
        expect(page.locator("#own-prompts")).to_be_visible()
        expect(page.locator("#examples")).to_be_hidden()
        page.get_by_label("Prompt", exact=True).fill("the cat sat on")
        page.locator("#score").click()
        expect(page.locator("#verdict")).to_contain_text("No verdict", timeout=A_RUN)
        page.locator("#own-prompts textarea").fill("\n".join(PROMPTS))
        page.locator("#calibrate").click()
        expect(status).to_contain_text("none were given", timeout=A_RUN)
        expect(page.locator("#roc-plot")).to_be_hidden()
        expect(page.locator("#verdict")).to_contain_text("of the calibration prompts")
        page.locator("#own-file input[type=file]").set_input_files(self.file)
        page.locator("#calibrate").click()
        expect(page.locator("#scored-table")).to_contain_text("right answer", timeout=A_RUN)

    @staticmethod
    def train(page):
        page.get_by_role("tab", name="Training").click()
        for place, value in {"#epochs": 5, "#window": 2, "#period": 2}.items():
            slide(page, place, value)
        page.locator("#start").click()
        expect(page.locator("#run-status")).to_contain_text("This is one seed", timeout=A_RUN)
        for place in ("#shares-plot", "#flips-plot", "#dropped-plot"):
            expect(page.locator(f"{place} img")).to_be_visible()
        expect(page.locator("#run-table tbody tr")).to_have_count(2)

    def test_a_run_is_told_while_it_goes_on(self, space):
        job = Client(space.url, verbose=False).submit("ema", epochs=4, api_name="/train")
        job.result(timeout=240)
        assert [pair["epoch"] for pair in job.outputs()] == [0, 1, 2, 3, 4]

    def test_a_calibration_is_handed_back(self, space):
        client = Client(space.url, verbose=False)
        found = client.predict(**KNOWN, questions=60, api_name="/calibrate")
        ask = {"prompt": "Ada Brook lives in :", "api_name": "/score", "calibration": found}
        judged = client.predict(**KNOWN, **ask)["judged"]
        assert judged["fits"] and judged["threshold"] == found["threshold"]
        assert sum(judged[name] for name in ("less_certain", "as_certain", "more_certain")) == pytest.approx(1)
        judged = client.predict(**KNOWN | {"num_samples": 5}, **ask)["judged"]
        assert judged == {"fits": False, "misfits": ["K = 5, not 4"]}

    @pytest.mark.parametrize(
        ("name", "said"),
        [("nobody/nothing", "Cannot load 'nobody/nothing'"), (MASKED, "it is a BertForMaskedLM, not a causal")],
    )
    def test_a_model_that_cannot_be_asked(self, space, name, said):
        with pytest.raises(AppError, match=said):
            Client(space.url, verbose=False).predict("the cat sat", model=name, api_name="/score")

    @require_chromium
    def test_stop_ends_the_runs(self, space):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            page.get_by_role("tab", name="Training").click()
            slide(page, "#epochs", 20)
            page.locator("#start").click()
            expect(page.locator("#run-status")).to_contain_text(re.compile("Epoch . of 20"), timeout=A_RUN)
            page.locator("#stop").click()
            expect(page.locator("#run-status")).to_contain_text("Stopped after epoch", timeout=A_RUN)
        seen.assert_clean()

    @require_chromium
    def test_two_visitors_keep_their_own_thresholds(self, space):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            expect(page.locator("#verdict")).to_contain_text("of the calibration prompts", timeout=A_RUN)
            other = page.context.browser.new_page()
            other.goto(space.url)
            expect(other.locator("#verdict")).to_contain_text("of the calibration prompts", timeout=A_RUN)
            slide(other, "#count", 3)
            slide(other, "#questions", 40)
            other.locator("#calibrate").click()
            expect(other.locator("#calibration-status")).to_contain_text("of 40 answers are wrong", timeout=A_RUN)
            expect(page.locator("#calibration-status")).to_contain_text("of 240 answers are wrong")
            page.locator("#score").click()
            expect(page.locator("#summary")).to_contain_text("of 10", timeout=A_RUN)
            expect(page.locator("#verdict")).to_contain_text("of the calibration prompts")
        seen.assert_clean()

    @require_chromium
    @pytest.mark.parametrize(("prompt", "said"), [("Is Ada in Paris", "not Is, Paris"), ("", "Write a prompt first")])
    def test_a_prompt_of_another_world_is_named(self, space, prompt, said):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            expect(page.locator("#verdict")).to_contain_text("of the calibration prompts", timeout=A_RUN)
            page.get_by_label("Prompt", exact=True).fill(prompt)
            page.locator("#score").click()
            expect(page.locator(".toast-body.error")).to_contain_text(said)
        seen.assert_clean()


def is_embedded_score(found):
    assert found["prompt"] == "Ada Brook lives in :" and found["verdict"] in ("right", "wrong", "refused")
    assert sum(answer["count"] for answer in found["answers"]) == len(found["spectrum"]) == 4
    return found["judged"] == {"fits": False, "misfits": ["nothing was calibrated yet"]}


def is_own_score(found):
    assert found["truth"] is None and "verdict" not in found["answers"][0]
    return found["settings"]["model"] == WRITER and len(found["revision"]) == 40


def is_embedded_calibration(found):
    assert found["by"] == "youden" and 0 < found["num_wrong"] < found["num_prompts"] == len(found["rows"]) == 60
    return found["auroc"]["eigenscore"] > 0.5 and 0 < found["youden_j"] <= 1


def is_own_calibration(found):
    above = [row["above_threshold"] for row in found["rows"]]
    return found["by"] == "quantile" and found["auroc"] == {} and sum(above) <= 5


def is_finished_pair(pair):
    assert pair["finished"] and pair["plain"]["masked"] == [] and pair["arm"]["masked"] == [3, 4]
    assert pair["plain"]["wrong"][:3] == pair["arm"]["wrong"][:3], "before the first mask the two runs are the same"
    return all(len(run["wrong"]) == 5 for run in (pair["plain"], pair["arm"]))


def test_the_command_opens_the_page():
    check_command_opens_page("send", "Does the model know, or make it up?")
