# SPDX-License-Identifier: Apache-2.0
"""The race: every contender against what it stands for, the same start and text for all, and what the page shows of it."""

import math
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from torch.optim import AdamW

from eigenhub.embedded.byte_llama import byte_batches, byte_blocks, new_byte_llama
from eigenhub.optim import AuON, DCTAdamW, HybridAuON, Trion, build_param_groups, memory_report
from eigenhub.training.schedule import lr_schedule


def settings(dct, names, bases=("dct2",), **options):
    names = list(names)
    defaults = {"rank": 8, "gap": 10, "left_over": "dropped", "rates": dct.names.RATES, "aux_rate": 1e-2}
    return dct.contenders.Settings(names, list(bases), **defaults | options)


@pytest.fixture(scope="module")
def records(dct):
    """Every contender, and two bases, for ten steps."""
    report = dct.standings.report
    answers = list(report(list(dct.names.CONTENDERS), ["dct2", "identity"], 8, 5, "fira", 10, dct.names.RATES, 1e-2))
    assert len(answers) > 2, "the curves are not live"
    counts = [len(answer[0]["losses"]) for answer in answers]
    assert counts[0] == 1 and counts == sorted(counts) and counts[-1] == 10
    assert all(r["held_out_loss"] is None for answer in answers[:-1] for r in answer)
    return answers[-1]


# ---------------------------------------------------------------- contenders


def test_a_run_equals_a_loop_by_hand(dct):
    """Against torch's AdamW with two rates, clipping and the schedule, to the bit."""
    steps = 6
    *_, (runner,) = dct.racing.race(settings(dct, ["AdamW"], rates={"AdamW": 2e-3}), steps, seed=3)
    model = new_byte_llama(3).train()
    groups = build_param_groups(model)
    matrices = [p for group in groups if "algorithm" not in group for p in group["params"]]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    assert len(matrices) == 14 and len(others) == 7
    rates = [{"params": matrices, "lr": 2e-3}, {"params": others, "lr": 1e-2}]
    optimizer = AdamW(rates, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = lr_schedule(optimizer, "cosine", 0.1, steps, 0.1)
    losses = []
    for _, rows in zip(range(steps), byte_batches(4, 3), strict=False):
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert runner.losses == losses
    test = byte_blocks("test")
    rows = test[:: len(test) // 128][:128]
    with torch.no_grad():
        assert runner.held_out == model.eval()(input_ids=rows, labels=rows).loss.item()


def test_all_start_from_the_same_weights_on_the_same_text(dct):
    names = list(dct.names.CONTENDERS)
    first = next(iter(dct.racing.race(settings(dct, names, ["dct2", "random"]), 10)))
    assert len(first) == 9 and len({runner.losses[0] for runner in first}) == 1
    assert first[0].losses[0] == pytest.approx(math.log(256), abs=0.2)


@pytest.mark.parametrize(
    ("name", "kind", "keys"),
    [
        ("DCT-AdamW", DCTAdamW, {"exp_avg", "exp_avg_sq", "indices", "step"}),
        ("Trion", Trion, {"momentum_buffer", "indices"}),
        ("AuON", AuON, {"momentum_buffer"}),
        ("Hybrid AuON", HybridAuON, {"momentum_buffer"}),
        ("Muon", None, {"momentum_buffer"}),
        ("frozen (control)", None, set()),
    ],
)
def test_each_contender_trains_the_matrices_its_way(dct, name, kind, keys):
    steps = dct.racing.race(settings(dct, [name], rates=dict.fromkeys(dct.names.RATES, 0.011)), 10)
    (runner,) = next(steps)
    weight = runner.model.model.layers[0].mlp.up_proj.weight
    fresh = new_byte_llama(0).model.layers[0].mlp.up_proj.weight
    next(steps)  # the warm-up begins with a rate of zero
    assert torch.equal(weight, fresh) is not bool(keys)
    own = [optimizer.state[weight] for optimizer in runner.optimizers if weight in optimizer.state]
    assert set().union(*own) == keys
    if kind is not None:
        assert type(runner.optimizers[0]) is kind
    peaks = {g["initial_lr"] for o in runner.optimizers for g in o.param_groups}
    assert peaks == ({0.011, 1e-2} if keys else {1e-2})
    decay = {g["weight_decay"] for o in runner.optimizers for g in o.param_groups}
    head = runner.model.lm_head.weight
    assert decay == {0.0} and any("exp_avg" in o.state[head] for o in runner.optimizers if head in o.state)


@pytest.mark.parametrize(
    ("left_over", "key"), [("dropped", None), ("fira", "residual_norm"), ("int8", "error_feedback_span"), ("bf16", "error_feedback")]
)  # fmt: skip
def test_options_reach_dct_adamw(dct, left_over, key):
    chosen = settings(dct, ["DCT-AdamW"], ["identity"], rank=5, gap=7, left_over=left_over)
    (runner,) = next(iter(dct.racing.race(chosen, 10)))
    group = next(g for g in runner.optimizers[0].param_groups if g["algorithm"] == "matrix")
    assert (group["rank"], group["update_proj_gap"], group["basis"]) == (5, 7, "identity")
    state = runner.optimizers[0].state[group["params"][0]]
    assert state["indices"].shape == (5,) and (key is None or key in state)
    assert {k for k in state if "error" in k or "residual" in k} <= ({key} if key else set()) | {
        "error_feedback",
        "error_feedback_low",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": []}, "Choose at least one contender"),
        ({"names": ["Sophia"]}, "not 'Sophia'"),
        ({"names": ["Trion"], "bases": []}, "Choose one or more of the bases"),
        ({"names": ["Trion"], "bases": ["haar"]}, "Choose one or more of the bases"),
        ({"left_over": "eaten"}, "not 'eaten'"),
        ({"rank": 0}, "Rank and gap must be at least 1"),
        ({"aux_rate": -1.0}, "no learning rate may be negative"),
        ({"rates": {"AdamW": -1.0}}, "no learning rate may be negative"),
        ({"rates": {"AdamW": None}}, "Give every learning rate a value"),
        ({"aux_rate": None}, "Give every learning rate a value"),
        ({"steps": 9}, "A race has 10 to 300 steps, not 9"),
        ({"steps": 301}, "not 301"),
    ],
)
def test_races_that_cannot_be_run(dct, change, said):
    arguments = {"names": ["AdamW"], "bases": [], "rank": 8, "gap": 10, "left_over": "dropped", "steps": 10}
    arguments |= {"rates": {"AdamW": 1e-3}, "aux_rate": 1e-2} | change
    with pytest.raises(gr.Error, match=said):
        next(dct.standings.report(**arguments))


# ---------------------------------------------------------------- what is told


def test_records_of_all_contenders(dct, records):
    names = [record["name"] for record in records]
    assert names == [
        "frozen (control)",
        "AdamW",
        "Muon",
        *("DCT-AdamW, DCT-II", "DCT-AdamW, axes", "Trion, DCT-II", "Trion, axes"),
        "AuON",
        "Hybrid AuON",
    ]
    assert set(names) <= set(dct.race_tab.COLORS)
    by_name = {record["name"]: record for record in records}
    state = {name: record["state_bytes"] for name, record in by_name.items()}
    assert (
        state["frozen (control)"] < state["DCT-AdamW, DCT-II"] < state["AuON"] < state["Trion, axes"] < state["AdamW"]
    )
    for record in records:
        assert len(record["losses"]) == len(record["smoothed"]) == 10 and not record["diverged"]
        assert record["smoothed"][9] == pytest.approx(sum(record["losses"][5:]) / 5)
        assert record["smoothed"][1] == pytest.approx(sum(record["losses"][:2]) / 2)
        assert record["held_out_loss"] < record["losses"][0] - 1
        assert record["optimizer_milliseconds"] > 0


def test_state_bytes_are_those_of_the_optimizers(dct):
    *_, (runner,) = dct.racing.race(settings(dct, ["Muon"]), 10)
    assert runner.state_bytes == sum(memory_report(optimizer).total for optimizer in runner.optimizers)
    matrices = sum(p.numel() for p in runner.optimizers[0].param_groups[0]["params"])
    others = [p for group in runner.optimizers[1].param_groups for p in group["params"]]
    assert runner.state_bytes == 4 * matrices + sum(8 * p.numel() + 4 for p in others)


def test_a_run_that_blows_up_is_said_to_have_diverged(dct):
    rates = dict.fromkeys(dct.names.RATES, 1e-3) | {"AdamW": 1e3}
    *_, last = dct.standings.report(["frozen (control)", "AdamW"], [], 8, 1, "dropped", 10, rates, 1e-2)
    frozen, adamw = last
    assert adamw["diverged"] and not frozen["diverged"]
    tab = dct.race_tab
    html = tab.standings_table(last)
    assert "diverged" in html and html.index("frozen") < html.index("AdamW")
    assert tab.sentence(last, 10).startswith("Finished after 10 steps: **frozen (control)** ends lowest")
    assert tab.ceiling(last, 10) <= max(frozen["smoothed"])
    assert tab.sentence([adamw], 10) == "Step 10 of 10: every run has diverged." and tab.ceiling([adamw], 10) is None
    assert tab.curves(last)[tab.LOSS].max() < 6


def test_the_plot_and_the_standings_follow_the_race(dct, records):
    tab = dct.race_tab
    frame = tab.curves(records)
    assert list(frame.columns) == ["step", "training loss", "matrices trained by"] and len(frame) == 90
    muon = frame[frame["matrices trained by"] == "Muon"]
    assert muon["training loss"].tolist() == records[2]["smoothed"] and muon["step"].tolist() == list(range(1, 11))
    html = tab.standings_table(records)
    best = min(records, key=lambda record: record["held_out_loss"])
    assert html.index(best["name"]) == min(html.index(record["name"]) for record in records)
    assert f"<td>{best['held_out_loss']:.3f}</td>" in html and tab.COLORS[best["name"]] in html
    gain = records[0]["held_out_loss"] - best["held_out_loss"]
    assert f"{gain:.3f} below untrained matrices" in tab.sentence(records, 10)
    early = [{**r, "losses": r["losses"][:2], "smoothed": r["smoothed"][:2], "held_out_loss": None} for r in records]
    assert tab.sentence(early, 10).startswith("Step 2 of 10: ") and tab.ceiling(early, 10) is None
    assert tab.ceiling(records, 10) == max(loss for r in records for loss in r["smoothed"][2:])


def page_race(dct, request, steps):
    return dct.race_tab.run(request, ["AdamW"], [], 8, 10, "dropped", steps, 1e-2, *dct.names.RATES.values())


def test_the_event_of_the_page_ends_with_the_standings(dct):
    answers = list(page_race(dct, SimpleNamespace(session_hash="me"), 10))
    assert answers[0][0] is None and answers[0][2] == "Getting ready …"
    plot, html, sentence = answers[-1]
    assert plot.x_lim == [0, 10] and "AdamW" in html and sentence.startswith("Finished after 10 steps: **AdamW**")
    assert not dct.race_tab._racing


def test_a_race_ends_for_the_page_that_stops_it(dct):
    me, other = SimpleNamespace(session_hash="me"), SimpleNamespace(session_hash="other")
    early = page_race(dct, me, 300)
    next(early)
    dct.race_tab.end(me)
    assert "Stopped after step 1 of 300" in next(early)[2] and next(early, None) is None
    race = page_race(dct, me, 300)
    assert [next(race)[2][:12] for _ in range(2)] == ["Getting read", "Step 1 of 30"]
    dct.race_tab.end(other)
    assert next(race)[2].startswith("Step ")
    dct.race_tab.end(me)
    *_, (_, _, sentence) = race
    assert sentence.startswith("Stopped after step ") and "of 300: AdamW leads" in sentence
    assert not dct.race_tab._racing
