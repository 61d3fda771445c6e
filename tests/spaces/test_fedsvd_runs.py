# SPDX-License-Identifier: Apache-2.0
"""Runs, called as functions: against the library run by hand and dense algebra, side by side, stopped, and as they are told."""

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForImageClassification

from eigenhub.embedded.digits import as_rows, load_digits
from eigenhub.embedded.vit import pretrained_vit_folder
from eigenhub.federated import dirichlet, pair_lora_keys
from eigenhub.federated.recipes import METHOD_NAMES, RECIPES
from eigenhub.hub.space_sessions import Session
from tests.spaces.checks import check_endpoints_are_described
from tests.spaces.conftest import modules_of
from tests.support.devices import require_package


ENDPOINTS = ("federate", "pair", "split", "inspect", "refactor")
require_opacus = require_package("opacus")


@pytest.fixture(scope="module")
def fedsvd():
    with modules_of("fedsvd") as modules:
        yield modules


def settings(fedsvd, **changes):
    return fedsvd.settings.Settings(**{"clients": 3, "rounds": 2, "steps": 2, **changes})


def last(answers):
    *_, answer = answers
    return answer


def without_times(record):
    return {name: value for name, value in record.items() if name not in ("seconds", "files")}


@pytest.fixture(scope="module")
def record(fedsvd):
    """A finished run whose clients all took part."""
    answers = list(fedsvd.running.federate(settings(fedsvd, share=1.0)))
    assert [len(answer["participants"]) for answer in answers] == [0, 1, 2]
    assert [answer["finished"] for answer in answers] == [False, False, True]
    return answers[-1]


@pytest.fixture(scope="module")
def private_record(fedsvd):
    return last(fedsvd.running.federate(settings(fedsvd, epsilon=8.0, rounds=3)))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "fedprox"}, "The method must be one of fedsvd, .*, got 'fedprox'"),
        ({"optimizer": "lion"}, "The optimizer must be one of sgd, adamw, got 'lion'"),
        ({"init": "pissa"}, "The init must be one of"),
        ({"clients": 1}, "number of clients must be a whole number from 2 to 12, got 1"),
        ({"clients": 13}, "from 2 to 12, got 13"),
        ({"rounds": 41}, "number of rounds must be a whole number from 1 to 40, got 41"),
        ({"steps": 2.5}, "number of steps must be a whole number from 1 to 20, got 2.5"),
        ({"alpha": 0}, "The alpha must be above 0"),
        ({"alpha": math.nan}, "The alpha must be above 0"),
        ({"epsilon": 0.5}, r"The epsilon must be 0 \(off\) or from 1 to 10, got 0.5"),
        ({"epsilon": -1}, "The epsilon must be"),
        ({"delta": 1}, "The delta must be above 0 and below 1, got 1"),
        ({"rate": None}, "The rate must be 0 .* got None"),
        ({"share": 0}, "The share must be above 0"),
        ({"clip": 0}, "The clip must be above 0"),
        ({"seed": 1.5}, "The seed must be a whole number"),
    ],
)
def test_settings_that_cannot_be(fedsvd, change, said):
    with pytest.raises(gr.Error, match=said):
        settings(fedsvd, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "fedavg", "rotation": True}, "This run cannot be made: .*downlink"),
        ({"clients": 12, "alpha": 0.001}, "This run cannot be made: none of 1000 draws"),
    ],
)
def test_what_only_the_library_refuses_is_said_on_the_page(fedsvd, change, said):
    with pytest.raises(gr.Error, match=said):
        next(fedsvd.running.federate(settings(fedsvd, **change)))


def test_usual_rates_and_names(fedsvd):
    assert settings(fedsvd).rate == 0.5 and settings(fedsvd, optimizer="adamw").rate == 3e-3
    assert settings(fedsvd, rate=0.1, seed=4.0).rate == 0.1
    assert settings(fedsvd, method="ffa", epsilon=6, optimizer="adamw").label == "FFA-LoRA, AdamW, ε = 6"
    values = (4.0, -1, "flora", 7, 3, False, 6, 1e-3, "sgd", "gaussian", 0.2, 1.0, 2.0, False, False, 5)
    chosen = fedsvd.controls.settings_of(values)
    assert (chosen.clients, chosen.alpha, chosen.epsilon, chosen.init, chosen.seed) == (4, 0.1, 0.0, "gaussian", 5)
    assert fedsvd.controls.settings_of((*values[:5], True, *values[6:])).epsilon == 6


def test_the_controls_are_in_the_order_of_the_settings(fedsvd):
    with gr.Blocks():
        inputs = fedsvd.controls.build().inputs
    chosen = fedsvd.controls.settings_of([component.value for component in inputs])
    assert chosen == fedsvd.settings.Settings(alpha=10**-0.25)


# ---------------------------------------------------------------- clients


def test_clients_are_those_of_the_partitioner(fedsvd):
    chosen = settings(fedsvd, clients=4, alpha=0.3, seed=7)
    clients = fedsvd.federation.client_rows(chosen)
    parts = dirichlet(load_digits()["train"], 4, 0.3, min_size=20, seed=7)
    assert [len(rows) for rows in clients.values()] == [len(part) for part in parts]
    counts = fedsvd.api.split(4, 0.3, 7)
    labels = parts[2]["labels"][:].tolist()
    assert counts["client 3"] == [labels.count(digit) for digit in range(10)]
    training, kept = fedsvd.federation.divided(clients)
    for name, rows in clients.items():
        ids = [id(row) for row in kept[name] + training[name]]
        assert ids == [id(row) for row in rows] and len(kept[name]) == math.ceil(len(rows) / 4)


@pytest.mark.parametrize(("init", "deviation"), [("kaiming", 1 / math.sqrt(3 * 64)), ("gaussian", 1 / 8)])
def test_the_first_adapter(fedsvd, init, deviation):
    chosen = settings(fedsvd, init=init)
    before = torch.get_rng_state()
    state = dict(fedsvd.federation.new_model(chosen).named_parameters())
    pairs = pair_lora_keys(state).values()
    drawn = torch.cat([state[pair.A].flatten() for pair in pairs])
    assert drawn.std().item() == pytest.approx(deviation, rel=0.05)
    assert not any(state[pair.B].any() for pair in pairs)
    torch.set_rng_state(before.roll(1))
    again = dict(fedsvd.federation.new_model(chosen).named_parameters())
    torch.set_rng_state(before)
    assert all(again[pair.A].equal(state[pair.A]) for pair in pairs), "it depends on what others have drawn"


# ---------------------------------------------------------------- runs


def test_a_run_round_by_round_is_the_run_of_the_library(fedsvd, record, tmp_path):
    trainer = fedsvd.federation.new_trainer(settings(fedsvd, share=1.0), tmp_path)
    history = trainer.train()
    assert record["accuracy"][1:] == [row["eval_accuracy"] for row in history]
    assert record["participants"] == [row["clients"] for row in history]
    assert record["upload_bytes"][-1] == sum(row["upload_bytes"] for row in history)
    assert record["download_bytes"][-1] == sum(row["download_bytes"] for row in history)
    kept = trainer.evaluate_clients()["clients"]
    latest = {name: values[-1] for name, values in record["client_accuracy"].items()}
    assert latest == {name: scores["eval_accuracy"] for name, scores in kept.items()}


def test_runs_do_not_disturb_one_another(fedsvd, record):
    ours, other = settings(fedsvd, share=1.0), settings(fedsvd, method="fedavg", seed=3, optimizer="adamw")
    in_turn = list(zip(fedsvd.running.federate(ours), fedsvd.running.federate(other), strict=True))[-1]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda chosen: last(fedsvd.running.federate(chosen)), (ours, other)))
    assert without_times(in_turn[0]) == without_times(at_once[0]) == without_times(record)
    assert without_times(in_turn[1]) == without_times(at_once[1])


@pytest.mark.parametrize("method", ["fedsvd", "fedex", "flora"])
def test_singular_values_are_those_of_what_the_weights_have_changed_by(fedsvd, method, tmp_path):
    run = fedsvd.running.Run(settings(fedsvd, method=method), tmp_path)
    while not run.is_over:
        run.next_round()
    base = dict(AutoModelForImageClassification.from_pretrained(pretrained_vit_folder()).named_parameters())
    trained = dict(run.trainer.model.merge_and_unload().named_parameters())
    for layer, rows in run.record["singular_values"].items():
        number, projection = layer.removeprefix("layer ").split(", ")
        (name,) = [n for n in base if f"layers.{number}." in n and n.endswith(f"{projection}.weight")]
        change = (trained[name] - base[name]).double()
        assert len(rows) == 2
        assert_close(torch.tensor(rows[-1]).double(), torch.linalg.svdvals(change)[: len(rows[-1])], rtol=0, atol=2e-6)


def test_the_error_of_averaging_is_that_of_dense_products(fedsvd, tmp_path):
    run = fedsvd.running.Run(settings(fedsvd, method="fedavg", share=1.0), tmp_path)
    run.next_round()
    updates, weights = run.observer.updates, torch.tensor([u.num_examples for u in run.observer.updates]).double()
    weights, missed, size = weights / weights.sum(), 0.0, 0.0
    for pair in pair_lora_keys(run.trainer.server.state).values():
        a, b = (torch.stack([u.state[key].double() for u in updates]) for key in pair)
        products = torch.einsum("k,kor,kri->oi", weights, b, a)
        means = torch.einsum("k,kor->or", weights, b) @ torch.einsum("k,kri->ri", weights, a)
        missed, size = missed + (means - products).square().sum(), size + products.square().sum()
    assert run.record["averaging_error"] == [pytest.approx((missed / size).sqrt().item(), rel=1e-6)]


def test_what_was_sent(fedsvd, record):
    """Four layers of 64 x 64 and rank 8 in single precision, and a head of 64 x 10 with its bias."""
    factor, head, asked = 4 * 64 * 8 * 4, 650 * 4, 3
    assert record["upload_bytes"] == [0, asked * factor, 2 * asked * factor]
    assert record["plain_upload_bytes"] == [2 * count for count in record["upload_bytes"]]
    whole = [0, asked * (2 * factor + head), asked * (4 * factor + head)]
    assert record["download_bytes"] == record["plain_download_bytes"] == whole
    rotated = last(fedsvd.running.federate(settings(fedsvd, share=1.0, rotation=True)))
    _, first, both = rotated["download_bytes"]
    assert both - first == asked * (factor + 4 * 64 * 8) < first  # a rotation is 8 x 8 in double precision
    assert rotated["accuracy"][2] == pytest.approx(record["accuracy"][2], abs=0.01)


def test_the_adapter_of_a_finished_run_can_be_taken_away(fedsvd, record):
    names = [path.rpartition("/")[2] for path in record["files"]]
    assert names == ["adapter_model.safetensors", "adapter_config.json", "fedsvd_config.json"]
    folder = record["files"][0].rpartition("/")[0]
    found = fedsvd.api.inspect(folder)
    assert found["run"]["method"] == "fedsvd" and found["ledger"] == [] and found["claim"] == ""
    for layer, rows in zip(found["layers"], record["singular_values"].values(), strict=True):
        assert layer["singular_values"] == pytest.approx(rows[-1], rel=1e-5)
        assert layer["kappa"] == pytest.approx(1, abs=1e-5)  # refactored by the server


# ---------------------------------------------------------------- privacy


@require_opacus
def test_epsilon_stays_below_its_target_and_private_figures_stay_with_the_clients(fedsvd, private_record):
    assert private_record["client_accuracy"] == {} and len(private_record["accuracy"]) == 4
    for name, spent in private_record["epsilon"].items():
        assert spent == sorted(spent) and spent[0] == 0 and spent[-1] <= 8
        rounds = [place for place, asked in enumerate(private_record["participants"]) if name in asked]
        assert [place for place in range(3) if spent[place + 1] > spent[place]] == rounds
    assert max(spent[-1] for spent in private_record["epsilon"].values()) > 7
    assert min(private_record["noise"].values()) > 0.3
    words = fedsvd.privacy.privacy_words(private_record)
    assert private_record["claim"] in words and fedsvd.privacy.HIDDEN in words
    assert "privacy_ledger.json" in private_record["files"][-1]
    tiles = fedsvd.reports.run_tiles(private_record)
    assert "hidden" in tiles and "of 8</b>" in tiles


@require_opacus
def test_private_figures_are_shown_to_those_who_ask(fedsvd):
    shown = last(fedsvd.running.federate(settings(fedsvd, epsilon=8.0, rounds=3, show_private=True, method="fedavg")))
    assert all(len(values) == 4 for values in shown["client_accuracy"].values())
    words = fedsvd.privacy.privacy_words(shown)
    assert "outside of the guarantee" in words and "noise multiplies noise" in words


def test_words_where_nothing_is_private_or_little_is(fedsvd, record):
    assert fedsvd.privacy.privacy_words(record) == fedsvd.privacy.NO_PRIVACY
    assert "unlimited" in fedsvd.reports.run_tiles(record)
    counts = {"client 1": [20] + [0] * 9, "client 2": [90] * 10}
    poor = {**record, "class_counts": counts, "settings": {**record["settings"], "delta": 0.1}}
    few, large = fedsvd.privacy.small_clients(poor)
    assert (
        "client 1 trains on 15 images, fewer than a batch of 32" in few
        and "δ = 0.1 is not below one over the 15" in large
    )
    assert (
        fedsvd.privacy.small_clients({**poor, "class_counts": {"client 2": [90] * 10}, "settings": {"delta": 1e-3}})
        == []
    )


# ---------------------------------------------------------------- the pair


@pytest.mark.parametrize("init", ["kaiming", pytest.param("orthonormal", marks=pytest.mark.slow)])
def test_the_pair_agrees_under_sgd(fedsvd, init):
    found = list(fedsvd.running.run_pair(settings(fedsvd, clients=2, init=init, rounds=3)))
    assert [len(answer["distance"]) for answer in found] == [0, 1, 2, 3]
    assert max(found[-1]["distance"]) <= 1e-5
    one, other = found[-1]["runs"]
    assert (one["settings"]["method"], other["settings"]["method"]) == ("fedsvd", "ffa_orth")
    assert one["accuracy"] == pytest.approx(other["accuracy"], abs=0.005)
    said = fedsvd.reports.pair_sentence(found[-1])
    assert "After 3 rounds" in said and "the SVD has changed the basis of A and nothing else" in said
    assert "Stopped after round 2 of 3" in fedsvd.reports.pair_sentence(found[2], goes_on=False)
    assert fedsvd.reports.pair_sentence(found[0]) == "Round 0 of 3."


def test_the_pair_parts_under_adamw(fedsvd):
    found = last(fedsvd.api.pair(3, 0.5, 3, 4, optimizer="adamw"))
    assert found["distance"][0] <= 1e-5 < 1e-2 < found["distance"][2]  # the first round begins in the same basis
    assert {len(values) for values in found["accuracy"].values()} == {4}
    told = {
        "runs": [{"settings": {"optimizer": "adamw", "epsilon": 0, "rounds": 3}, "finished": True, "accuracy": [0.5]}]
        * 2
    }
    assert "here the SVD does something" in fedsvd.reports.pair_sentence({**told, "distance": found["distance"]})


def test_the_distance_of_two_runs_is_that_of_dense_changes(fedsvd, tmp_path):
    servers, changes = [], []
    for method in ("fedsvd", "fedex"):
        run = fedsvd.running.Run(settings(fedsvd, method=method), tmp_path / method)
        run.next_round()
        server = run.trainer.server
        servers.append(server)
        dense = [
            server.state[pair.B].double() @ server.state[pair.A].double()
            + (torch.mm(*server.base_sums[name].factors()) if name in server.base_sums else 0)
            for name, pair in pair_lora_keys(server.state).items()
        ]
        changes.append(torch.stack(dense))
    expected = (changes[0] - changes[1]).norm() / changes[0].norm()
    assert fedsvd.changes.distance(*servers) == pytest.approx(expected.item(), rel=1e-9)
    assert fedsvd.changes.distance(servers[0], servers[0]) < 1e-15


# ---------------------------------------------------------------- the page


def values_of(fedsvd, rounds=2):
    return (3, -0.25, "fedsvd", rounds, 2, False, 6, 1e-3, "sgd", "kaiming", 0.5, 0.5, 2.0, False, False, 0)


def page_run(fedsvd, request, rounds=2, runs=()):
    return fedsvd.federate_tab.run(request, list(runs), "layer 0, q_proj", *values_of(fedsvd, rounds))


def test_the_event_of_the_page_ends_with_everything_shown_and_kept(fedsvd, record):
    answers = list(page_run(fedsvd, SimpleNamespace(session_hash="me"), runs=[record]))
    assert answers[0][0] == "Getting ready …" and {len(answer) for answer in answers} == {11}
    status, summary, privacy, split, accuracy, singular, sent, epsilon, files, kept, runs = answers[-1]
    assert status.startswith("Finished: **FedSVD** reaches") and "Worst client" in summary and "No privacy" in privacy
    assert len(accuracy.axes[0].lines) == 4 and len(singular.axes[0].lines) == 8 and len(sent.axes[0].lines) == 4
    assert epsilon.visible is False and files.visible is True and len(files.value) == 3
    assert runs == [record, kept] and kept["finished"]
    assert (
        fedsvd.federate_tab.show_layer(kept, "layer 1, v_proj").axes[0].get_title("left").endswith("layer 1, v_proj")
    )


def test_a_run_ends_for_the_page_that_stops_it(fedsvd):
    me, other = SimpleNamespace(session_hash="me"), SimpleNamespace(session_hash="other")
    run = page_run(fedsvd, me, 40)
    assert next(run)[0] == "Getting ready …" and next(run)[0] == "FedSVD begins with 3 clients."
    Session.end(other)
    assert next(run)[0].startswith("Round 1 of 40: client")
    Session.end(me)
    answer = next(run)
    assert answer[0] == "Stopped after round 2 of 40." and len(answer[-1]) == 1 and not answer[-1][0]["files"]
    assert next(run, None) is None and not Session._going
    early = page_run(fedsvd, me, 40)
    next(early)
    Session.end(me)
    answer = next(early)
    assert answer[0] == "Stopped after round 0 of 40." and answer[-1] == gr.skip()


def test_the_pair_of_the_page(fedsvd):
    me = SimpleNamespace(session_hash="me")
    answers = list(fedsvd.pair_tab.run(me, [], *values_of(fedsvd, 1)))
    sentence, accuracy, distance, runs = answers[-1]
    assert "After 1 round the two" in sentence and [run["settings"]["method"] for run in runs] == [
        "fedsvd",
        "ffa_orth",
    ]
    assert accuracy.visible and distance.visible
    run = fedsvd.pair_tab.run(me, [], *values_of(fedsvd, 40))
    for _ in range(2):
        next(run)
    Session.end(me)
    assert next(run)[0].startswith("Stopped after round 1 of 40") and next(run, None) is None


def test_the_comparison(fedsvd, record):
    tab = fedsvd.compare_tab
    assert tab.show([], "rounds")[0] == tab.NOTHING
    stopped = {**record, "finished": False, "settings": {**record["settings"], "rounds": 9}}
    status, plot, table = tab.show([record, stopped], "bytes")
    assert status == "2 runs." and plot.visible and table.count("<tr>") == 3 and "2 of 9" in table
    figure = fedsvd.figures.comparison_figure([record, stopped], "bytes")
    x = figure.axes[0].lines[0].get_xdata()
    assert x.tolist() == [count / 1024 for count in record["upload_bytes"]]


def test_figures_tell_the_record(fedsvd, record):
    figures = fedsvd.figures
    split = figures.split_figure(record["class_counts"], 0.5).axes[0]
    widths = [bar.get_width() for bar in split.patches]
    assert sum(widths) == 1200 and widths[:3] == [row[0] for row in record["class_counts"].values()]
    *clients, test = figures.accuracy_figure(record).axes[0].lines
    assert list(test.get_ydata()) == record["accuracy"]
    assert [list(line.get_ydata()) for line in clients] == list(record["client_accuracy"].values())
    assert figures.epsilon_figure(record) is None
    private = {
        **record,
        "epsilon": {"client 1": [0.0, 2.0], "client 2": [0.0, 3.0]},
        "settings": {**record["settings"], "epsilon": 4},
    }
    axes = figures.epsilon_figure(private).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 3.0] and axes.lines[0].get_xdata()[0] == 4
    line = figures.distance_figure([0.0, 3e-7], 5).axes[0].lines[0]
    assert line.get_ydata().tolist() == [figures.SMALLEST, 3e-7]


def test_sentences_about_failures_and_errors(fedsvd, record):
    failed = {**record, "finished": False, "failures": [{}, {"client 2": "has entries that are NaN or infinite"}]}
    assert "client 2 gave nothing: has entries that are NaN" in fedsvd.reports.progress_sentence(failed)
    assert "the product of means is the mean product" in fedsvd.reports.run_tiles(record)
    wrong = {**record, "averaging_error": [0.12], "settings": {**record["settings"], "method": "fedex"}}
    tiles = fedsvd.reports.run_tiles(wrong)
    assert "12.0%" in tiles and "put into the base weights" in tiles


def test_methods_are_those_of_the_library(fedsvd):
    names = fedsvd.names
    assert set(names.METHODS) == set(names.SUMMARIES) == set(METHOD_NAMES)
    assert set(names.B_ONLY) == {name for name, recipe in RECIPES.items() if recipe.trains == ("B",)}


def test_the_page_offers_what_a_run_has(fedsvd, record):
    assert tuple(record["singular_values"]) == fedsvd.federate_tab.LAYERS
    assert len(fedsvd.figures.COLORS) == fedsvd.names.CLIENTS[1] and len(fedsvd.figures.DIGIT_COLORS) == 10


def test_endpoints_are_described(fedsvd):
    check_endpoints_are_described(fedsvd.app.demo, ENDPOINTS)


def test_rows_are_digits(fedsvd):
    rows = as_rows(load_digits()["test"])
    assert len(rows) == 597  # the page says so
    assert "597" in fedsvd.compare_tab.INTRODUCTION
