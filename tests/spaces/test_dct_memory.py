# SPDX-License-Identifier: Apache-2.0
"""Bytes of optimizer state: the published totals, real optimizers of every kind of model, and bad architectures."""

import json

import gradio as gr
import pytest
import torch
from transformers import LlamaConfig, Qwen2MoeConfig

from tests.support.models import tiny_bert, tiny_gpt2, tiny_llama, tiny_vit


GQA = LlamaConfig(
    vocab_size=100,
    hidden_size=96,
    intermediate_size=200,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
EXPERTS = Qwen2MoeConfig(
    vocab_size=100,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=40,
    shared_expert_intermediate_size=40,
    num_experts=4,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
WIDE = LlamaConfig(vocab_size=100, hidden_size=320, intermediate_size=300, num_hidden_layers=1, num_attention_heads=2)
CONFIGS = {
    "tiny": tiny_llama().config,
    "gqa, tied": GQA,
    "experts": EXPERTS,
    "wider than a block of int8": WIDE,
    "gpt2": tiny_gpt2().config,
    "bert": tiny_bert().config,
    "vit": tiny_vit().config,
}
OURS = {"AdamW", "AuON", "Trion", "DCT-AdamW", *(f"DCT-AdamW, feedback {kind}" for kind in ("fp32", "bf16", "int8"))}


@pytest.mark.parametrize(
    ("model", "rank", "expected"),
    [
        ("llama_350m", 256, {"AdamW": 2.74, "Muon": 1.62, "GaLore": 1.22, "LDAdam": 2.51, "APOLLO": 1.05, "Dion": 1.78,
                             "Trion": 1.62, "DCT-AdamW": 1.06, "DCT-AdamW, feedback fp32": 2.18}),
        ("llama_1b", 512, {"AdamW": 9.98, "Muon": 5.48, "GaLore": 3.88, "LDAdam": 9.04, "APOLLO": 3.23, "Dion": 6.13,
                           "Trion": 5.49, "DCT-AdamW": 3.24, "DCT-AdamW, feedback fp32": 7.74}),
        ("llama_7b", 1024, {"AdamW": 50.2, "Muon": 26.1, "GaLore": 17.5, "LDAdam": 45.1, "APOLLO": 14.0, "Dion": 29.6,
                            "Trion": 26.1, "DCT-AdamW": 14.1, "DCT-AdamW, feedback fp32": 38.2}),
    ],
)  # fmt: skip
def test_totals_of_published_comparisons(dct, model, rank, expected):
    """The published figures count one stored basis matrix for DCT-AdamW and Trion."""
    found = {row["optimizer"]: row["total_bytes"] for row in dct.api.memory(model, rank, "float32")}
    basis = dct.state_sizes.basis_bytes(dct.state_sizes.shapes_of(model).matrices)
    for name, size in expected.items():
        total = found[name] + (basis if name.startswith(("DCT", "Trion")) else 0)
        assert total / 2**30 == pytest.approx(size, abs=0.06 if size > 10 else 0.011), name


def test_half_of_the_state_in_half_the_bits(dct):
    """int8 feedback does not shrink; indices and step counts do not either."""
    full, half = ({r["optimizer"]: r for r in dct.api.memory("llama_7b", 1024, d)} for d in ("float32", "bfloat16"))
    for name in ("AdamW", "Muon", "GaLore", "DCT-AdamW"):
        assert half[name]["total_bytes"] == pytest.approx(full[name]["total_bytes"] / 2, rel=1e-3)
    assert half["DCT-AdamW, feedback int8"]["total_bytes"] / 2**30 == pytest.approx(13.1, abs=0.2)


@pytest.mark.parametrize(("rank", "dtype"), [(8, "float32"), (0.25, "bfloat16"), (1000, "float32")])
@pytest.mark.parametrize("name", CONFIGS)
def test_formulas_equal_real_optimizers(dct, name, rank, dtype):
    built, rows = dct.api.check_memory(CONFIGS[name].to_json_string(), rank, dtype)
    assert [row for row in rows if not row["equal"]] == []
    assert all(row["formula_bytes"] == row["measured_bytes"] > 0 for row in rows)
    assert {row["optimizer"] for row in rows} >= OURS | (set() if name == "experts" else {"Muon"})
    assert built.startswith(f"this {CONFIGS[name].model_type} model; ")


def test_what_is_shown_is_what_is_checked(dct):
    shown = {r["optimizer"]: r["total_bytes"] for r in dct.api.memory(GQA.to_json_string(), 8)}
    checked = {r["optimizer"]: r["formula_bytes"] for r in dct.api.check_memory(GQA.to_json_string(), 8)[1]}
    assert {name: shown[name] for name in checked} == checked


def test_a_wrong_formula_is_shown_as_wrong(dct, monkeypatch):
    monkeypatch.setattr(dct.state_sizes, "STEP_BYTES", 8)
    built, rows = dct.api.check_memory(GQA.to_json_string(), 8)
    assert {row["optimizer"] for row in rows if row["equal"]} <= {"GaLore"}
    sentence, html = dct.memory_tab.check("", GQA.to_json_string(), 8, "float32")
    equal = sum(row["equal"] for row in rows)
    assert (
        f"**{equal} of {len(rows)} optimizers hold exactly" in sentence
        and html.count("<td>no</td>") == len(rows) - equal
    )


def test_the_embedded_model_stands_in_for_a_large_one(dct):
    built, rows = dct.api.check_memory("llama_350m", 256)
    assert (
        built == "the embedded Llama with rank 32, in place of a model too large to be built here; 461,440 parameters"
    )
    assert all(row["equal"] for row in rows)
    assert dct.state_check.same_share(0.5, dct.state_sizes.shapes_of("llama_350m")) == 0.5
    assert dct.state_check.same_share(1, dct.state_sizes.shapes_of("llama_7b")) == 1


def test_an_architecture_is_read_without_weights(dct, tmp_path):
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    for source in (str(tmp_path), text, f"\n {text}\n", str(tmp_path / "config.json")):
        shapes = dct.state_sizes.shapes_of(source)
        assert shapes.parameters == model.num_parameters() and all(p.is_meta for p in shapes.matrices)
        assert len(shapes.matrices) == 14


def test_the_class_is_the_one_that_the_configuration_names(dct):
    masked = {**tiny_bert().config.to_dict(), "architectures": ["BertForMaskedLM"]}
    model = dct.architectures.new_model(dct.architectures.read_architecture(json.dumps(masked)), torch.float32, "meta")
    assert type(model).__name__ == "BertForMaskedLM"
    bare = {**tiny_vit().config.to_dict(), "architectures": None}
    model = dct.architectures.new_model(dct.architectures.read_architecture(json.dumps(bare)), torch.float32, "meta")
    assert type(model).__name__ == "ViTModel"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("",), "nothing is named"),
        (("nothing/here",), "Cannot read this architecture"),
        (("{",), "Cannot read this architecture"),
        (("{}",), "has no `model_type`"),
        (('{"model_type": "no_such_model"}',), "Cannot read this architecture: .*no_such_model"),
        (("llama_60m", 0), "whole number of columns, or a share of the width below 1, not 0"),
        (("llama_60m", 1.5), "not 1.5"),
        (("llama_60m", None), "not None"),
        (("llama_60m", 8, "float8"), "must be float32 or bfloat16, not 'float8'"),
    ],
)
def test_what_cannot_be_counted(dct, monkeypatch, arguments, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(gr.Error, match=said):
        dct.api.memory(*arguments)


def test_ranks_come_as_gradio_sends_them(dct):
    assert [dct.api.as_rank(value) for value in (1, 1.0, 256.0, 0.25)] == [1, 1, 256, 0.25]
    assert isinstance(dct.api.as_rank(256.0), int) and isinstance(dct.api.as_rank(0.25), float)


def test_the_page_shows_the_architecture_that_was_pasted(dct):
    tiles, figure, html = dct.memory_tab.show("llama_7b", GQA.to_json_string(), 8, "float32")
    records = dct.api.memory(GQA.to_json_string(), 8)
    assert "<b>174 k</b>" in tiles and "llama; " in tiles
    assert html.count("<tr>") == 1 + len(records) and "2Nr + nr" in html
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    assert bars[: len(records)] == pytest.approx([r["matrix_bytes"] / 2**30 for r in records])
    assert bars[len(records) :] == pytest.approx([r["other_bytes"] / 2**30 for r in records])
    assert "6.74 G" in dct.memory_tab.show("llama_7b", "  ", 8, "float32")[0]


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1000, "1 kB"), (367969280, "368 MB"), (6738415616, "6.74 GB"), (2e12, "2 TB")]
)
def test_readable_counts(dct, count, text):
    assert dct.memory_tab.readable(count, "B") == text
