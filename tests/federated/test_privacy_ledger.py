# SPDX-License-Identifier: Apache-2.0
"""One budget per client over all rounds: caps, totals, words, files."""

import json
import math
import sys

import pytest

from eigenhub.federated import accounting
from eigenhub.federated.accounting import compute_epsilon, find_noise_multiplier
from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.privacy_ledger import LEDGER_NAME, PrivacyLedger


pytest.importorskip("opacus")

RDP = {"target_epsilon": 6.0, "target_delta": 1e-5, "accountant": "rdp"}


def ledger_of(*clients, rounds=4, steps=5, **settings):
    """A ledger of clients with a thousand examples each."""
    ledger = PrivacyLedger(DPConfig(**(RDP | settings)))
    for client in clients:
        ledger.enroll(client, num_examples=1000, steps_per_round=steps, batch_size=50, max_participations=rounds)
    return ledger


def test_noise_is_planned_for_all_own_steps_at_the_own_rate():
    ledger = ledger_of("a", rounds=4, steps=5)
    assert ledger.sample_rate("a") == 0.05
    assert ledger.noise_multiplier("a") == find_noise_multiplier(6.0, 1e-5, 0.05, 20, "rdp")


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_totals_over_rounds_equal_one_call_with_all_steps(accountant):
    ledger = ledger_of("a", accountant=accountant)
    sigma = ledger.noise_multiplier("a")
    for round in (1, 2, 5, 9):
        ledger.record("a", round, 5)
    assert ledger.epsilon("a") == compute_epsilon([(sigma, 0.05, 20)], 1e-5, accountant)
    assert 5.9 < ledger.epsilon("a") <= 6.0
    assert len(ledger.accounts["a"].history) == 1  # it does not grow with the rounds


def test_what_one_round_costs_is_not_what_is_reported():
    """A new engine every round forgets the rounds before, and logs a fraction of the true epsilon."""
    ledger = ledger_of("a")
    engine = pytest.importorskip("opacus.accountants").create_accountant("rdp")
    for round in (1, 2, 3, 4):
        ledger.record("a", round, 5)
    for _ in range(5):
        engine.step(noise_multiplier=ledger.noise_multiplier("a"), sample_rate=ledger.sample_rate("a"))
    assert engine.get_epsilon(1e-5) < 0.8 * ledger.epsilon("a")
    for _ in range(15):
        engine.step(noise_multiplier=ledger.noise_multiplier("a"), sample_rate=ledger.sample_rate("a"))
    assert engine.get_epsilon(1e-5) == pytest.approx(ledger.epsilon("a"))


def test_the_cap_stops_one_client_and_leaves_the_others():
    ledger = ledger_of("a", "b", rounds=2)
    for round in (1, 2):
        ledger.record("a", round, 5)
    assert not ledger.may_participate("a") and ledger.may_participate("b")
    spent = ledger.spent()
    with pytest.raises(ValueError, match="client 'a': the budget is spent: 2 of 2 participations"):
        ledger.record("a", 3, 1)
    with pytest.raises(ValueError, match="client 'b': `steps` must be at most 5 a round, got 6"):
        ledger.record("b", 3, 6)
    assert ledger.spent() == spent and spent["a"] <= 6.0 and spent["b"] == 0.0


def test_a_round_is_entered_once_and_in_order():
    ledger = ledger_of("a")
    ledger.record("a", 3, 5)
    for round in (3, 2):
        with pytest.raises(ValueError, match=f"client 'a': `round={round}` is entered already or late"):
            ledger.record("a", round, 5)
    for arguments, name in (((0, 5), "round"), ((4, 0), "steps"), ((4, 2.0), "steps")):
        with pytest.raises(ValueError, match=f"client 'a': `{name}` must be an integer of at least 1"):
            ledger.record("a", *arguments)
    assert ledger.accounts["a"].participations == 1
    with pytest.raises(ValueError, match="client 'z' is not enrolled"):
        ledger.may_participate("z")


def test_fixed_noise_is_used_and_checked_against_the_target():
    ledger = ledger_of("a", noise_multiplier=3.0)
    assert ledger.noise_multiplier("a") == 3.0
    with pytest.raises(
        ValueError, match="`noise_multiplier=0.4` costs client 'a' an epsilon of .* than `target_epsilon=6.0`"
    ):
        ledger_of("a", noise_multiplier=0.4)
    free = ledger_of("a", target_epsilon=None, noise_multiplier=0.4)
    free.record("a", 1, 5)
    assert free.epsilon("a") > 6.0


def test_a_target_out_of_reach_is_an_error_at_enrolment():
    with pytest.raises(ValueError, match="client 'a': `target_epsilon=0.05` .* cannot be reached"):
        ledger_of("a", target_epsilon=0.05)


def test_small_clients_and_large_deltas_are_warned_of():
    ledger = PrivacyLedger(DPConfig(**(RDP | {"target_delta": 0.1, "max_participations": 1})))
    with pytest.warns(UserWarning) as caught:
        ledger.enroll("tiny", num_examples=20, steps_per_round=1, batch_size=32)
    texts = [str(warning.message) for warning in caught]
    assert any("client 'tiny' has 20 examples, fewer than the expected batch of 32" in text for text in texts)
    assert any("`target_delta=0.1` is not below 1 / 20" in text for text in texts)
    assert ledger.sample_rate("tiny") == 1.0


def test_settings_go_before_arguments():
    ledger = ledger_of("a", max_participations=7, expected_batch_size=100)
    assert ledger.sample_rate("a") == 0.1 and ledger.accounts["a"].max_participations == 7


def test_enrolment_needs_a_cap_and_repeats_without_change_only():
    ledger = ledger_of("a")
    ledger.record("a", 1, 5)
    ledger.enroll("a", num_examples=1000, steps_per_round=5, batch_size=50, max_participations=4)
    assert ledger.accounts["a"].participations == 1
    with pytest.raises(ValueError, match="client 'a' is enrolled with other values: `max_participations` 4 and 40"):
        ledger.enroll("a", num_examples=1000, steps_per_round=5, batch_size=50, max_participations=40)
    with pytest.raises(ValueError, match="`max_participations` must be given"):
        ledger.enroll("b", num_examples=1000, steps_per_round=5, batch_size=50)
    with pytest.raises(ValueError, match="`num_examples` must be an integer of at least 1, got 0"):
        ledger.enroll("b", num_examples=0, steps_per_round=5, batch_size=50, max_participations=4)


def test_a_thousand_different_clients_are_searched_for_when_they_come(monkeypatch):
    searches = []
    search = accounting.find_noise_multiplier

    def counted(*arguments):
        searches.append(arguments)
        return search(*arguments)

    monkeypatch.setattr("eigenhub.federated.privacy_budget.find_noise_multiplier", counted)
    ledger = PrivacyLedger(DPConfig(**RDP))
    for client in range(1000):
        ledger.enroll(f"c{client}", 2000 - client % 10 + client, 5, batch_size=50, max_participations=4)
    assert len(searches) <= 10
    ledger.record("c500", 1, 5)
    assert searches[-1][2] == ledger.sample_rate("c500") and len(json.dumps(ledger.state_dict())) < 250 * 1000


@pytest.mark.parametrize("folder", [False, True])
def test_a_saved_ledger_reads_the_same(tmp_path, folder):
    ledger = ledger_of("a", "b")
    ledger.record("a", 1, 5)
    path = ledger.save(tmp_path if folder else tmp_path / "deep" / LEDGER_NAME)
    assert path.name == LEDGER_NAME and [file.name for file in path.parent.iterdir()] == [LEDGER_NAME]
    assert json.loads(path.read_text())["claim"] == ledger.claim()
    loaded = PrivacyLedger.load(path.parent if folder else path, config=ledger.config)
    assert loaded.state_dict() == ledger.state_dict() and loaded.spent() == ledger.spent()
    loaded.record("a", 2, 5)
    ledger.record("a", 2, 5)
    assert loaded.epsilon("a") == ledger.epsilon("a") > 0


def test_reading_needs_no_opacus(tmp_path, monkeypatch):
    ledger = ledger_of("a", accountant="prv")
    ledger.record("a", 1, 5)
    spent, claim = ledger.spent(), ledger.claim()
    ledger.save(tmp_path)
    accounting._epsilon.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "opacus"]:
        monkeypatch.setitem(sys.modules, name, None)
    loaded = PrivacyLedger.load(tmp_path)
    assert loaded.spent() == spent and loaded.claim() == claim
    loaded.record("a", 2, 5)
    with pytest.raises(
        ImportError, match=r"Privacy accounting needs opacus: install it by `pip install 'eigenhub\[dp\]'`"
    ):
        loaded.epsilon("a")


def test_a_ledger_goes_on_under_its_own_settings_only(tmp_path):
    ledger = ledger_of("a")
    ledger.save(tmp_path)
    other = DPConfig(**(RDP | {"target_epsilon": 8.0, "physical_batch_size": 4}))
    with pytest.raises(ValueError, match=r"kept under other settings \(`target_epsilon`: 6.0 there, 8.0 here\)"):
        PrivacyLedger.load(tmp_path, config=other)
    # what does not change the cost may differ
    PrivacyLedger.load(tmp_path, config=DPConfig(**(RDP | {"physical_batch_size": 4, "grad_sample_mode": "ghost"})))
    with pytest.raises(ValueError, match="enrolled with other values: `steps_per_round` 6 and 5"):
        ledger_of("a", steps=6).load_state_dict(ledger.state_dict())


def test_a_checkpoint_restores_spending_over_new_enrolment():
    before = ledger_of("a", "b")
    before.record("b", 7, 5)
    state = json.loads(json.dumps(before.state_dict()))
    after = ledger_of("a", "b")
    after.load_state_dict(state)
    assert after.state_dict() == before.state_dict()
    with pytest.raises(ValueError, match="client 'b': `round=7` is entered already"):
        after.record("b", 7, 5)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"config": {}}', '{"config": {"target_epsilon": 6, "target_delta": 1e-5}, "format": 2}'],
)
def test_a_torn_or_foreign_file_is_named(tmp_path, content):
    path = tmp_path / LEDGER_NAME
    path.write_text(content)
    with pytest.raises(ValueError, match="cannot be read as the privacy ledger of this run"):
        PrivacyLedger.load(path)
    with pytest.raises(FileNotFoundError):
        PrivacyLedger.load(tmp_path / "none.json")


def test_a_lost_account_field_is_named(tmp_path):
    content = ledger_of("a").state_dict()
    del content["clients"]["a"]["history"]
    with pytest.raises(ValueError, match="not an account of the privacy ledger: .*history"):
        ledger_of().load_state_dict(content)


def test_the_claim_names_the_worst_client_and_its_limits():
    ledger = ledger_of("a", "b")
    assert ledger.claim() == "Nothing is spent: none of 2 enrolled clients has taken a private step."
    ledger.record("a", 1, 5)
    for round in (1, 2):
        ledger.record("b", round, 5)
    claim = ledger.claim()
    epsilon = math.ceil(1000 * ledger.epsilon("b")) / 1000
    assert f"with epsilon = {epsilon:.3f} (target 6) and delta = 1e-05." in claim
    assert "The largest of 2 clients is 'b': 10 steps at sample rate 0.05" in claim
    assert "in 2 of at most 4 participations, by the RDP accountant" in claim
    for words in (
        "Example-level",
        "Poisson",
        "added or removed",
        "parallel composition",
        "not client-level",
        "hyperparam",
    ):
        assert words in claim
    assert "seed" not in claim


def test_a_claim_that_is_none_says_so(tmp_path):
    seeded = ledger_of("a", seed=3)
    seeded.record("a", 1, 5)
    assert "The seed was fixed to 3: there is no guarantee against whoever knows it." in seeded.claim()
    noiseless = ledger_of("a", target_epsilon=None, noise_multiplier=0.0)
    noiseless.record("a", 1, 5)
    assert noiseless.claim() == "No privacy is guaranteed: the steps of client 'a' carried no noise."
    assert PrivacyLedger.load(noiseless.save(tmp_path)).epsilon("a") == math.inf
