# SPDX-License-Identifier: Apache-2.0
"""One privacy budget per client over all rounds of a federated run, with hard caps."""

import json
from pathlib import Path
from typing import Any

from eigenhub.federated.accounting import Steps, compute_epsilon, poisson_rate
from eigenhub.federated.client_account import ClientAccount
from eigenhub.federated.dp_config import DPConfig, check_count
from eigenhub.federated.privacy_budget import PrivacyBudget
from eigenhub.federated.privacy_claim import privacy_claim
from eigenhub.files import check_entries, naming, read_json, write_text


LEDGER_NAME = "privacy_ledger.json"
FORMAT = 1
# Settings that change what is spent. The others may differ between a run and its continuation.
_ACCOUNTED = "target_epsilon target_delta max_grad_norm noise_multiplier accountant max_participations expected_batch_size".split()


class PrivacyLedger:
    """The accountant of every client over all rounds.

    A client's noise is set for all the steps it may ever take, `steps_per_round * max_participations`, at its own sample
    rate q = min(1, B / n). The share of clients in a round enters neither: who takes part is not secret. The number of
    participations is a cap and not an expectation, so no run of luck in the choice of clients exceeds the target.

    Args:
        config (`DPConfig`): target, accountant and caps.

    Example:

    ```python
    >>> from eigenhub.federated import DPConfig, PrivacyLedger
    >>> ledger = PrivacyLedger(DPConfig(target_epsilon=6.0, target_delta=1e-5, accountant="rdp"))
    >>> ledger.enroll("clinic", num_examples=11264, steps_per_round=10, batch_size=128, max_participations=50)
    >>> round(ledger.noise_multiplier("clinic"), 2)
    0.65
    >>> ledger.record("clinic", round=1, steps=10)
    >>> ledger.epsilon("clinic") < 6.0
    True
    ```
    """

    def __init__(self, config: DPConfig) -> None:
        self.config = config
        self.accounts: dict[str, ClientAccount] = {}
        self._reported: dict[tuple[Steps, ...], float] = {}
        self._budget = PrivacyBudget(config)

    def enroll(
        self,
        client_id: str,
        num_examples: int,
        steps_per_round: int,
        batch_size: int,
        max_participations: int | None = None,
    ) -> None:
        """Open the account of a client; again with the same values, it changes nothing.

        Args:
            client_id (`str`): name of the client.
            num_examples (`int`): its examples n.
            steps_per_round (`int`): most private steps in one round.
            batch_size (`int`): expected size B of a batch, unless the configuration has `expected_batch_size`.
            max_participations (`int`, *optional*): most rounds, unless the configuration has `max_participations`.

        Raises:
            ValueError: if the target cannot be reached, or the client is enrolled with other values.
        """
        batch_size = self.config.batch_size(batch_size)
        participations = self.config.max_participations or max_participations
        if participations is None:
            raise ValueError("`max_participations` must be given here or in the configuration: it is the hard cap")
        account = ClientAccount(
            num_examples=check_count("num_examples", num_examples),
            sample_rate=poisson_rate(batch_size, num_examples),
            steps_per_round=check_count("steps_per_round", steps_per_round),
            max_participations=check_count("max_participations", participations),
            noise_multiplier=self.config.noise_multiplier,
        )
        if client_id in self.accounts:
            self._check_plan(client_id, account)
            return
        self._budget.warn(client_id, account, batch_size)
        self._budget.check(client_id, account)
        self.accounts[client_id] = account

    def may_participate(self, client_id: str) -> bool:
        """Whether the client has a round left.

        Args:
            client_id (`str`): an enrolled client.
        """
        return not self._account(client_id).exhausted

    def record(self, client_id: str, round: int, steps: int) -> None:
        """Enter the private steps of a client in one round.

        Args:
            client_id (`str`): an enrolled client.
            round (`int`): number of the round, from 1.
            steps (`int`): steps taken, those of empty batches among them.

        Raises:
            ValueError: beyond a cap, for a second entry of the client in a round, and for a round before its last one.
        """
        sigma = self.noise_multiplier(client_id)
        try:
            self._account(client_id).record(round, steps, sigma)
        except ValueError as error:
            raise ValueError(f"client {client_id!r}: {error}") from None

    def sample_rate(self, client_id: str) -> float:
        """Probability of each example of the client to be in a batch.

        Args:
            client_id (`str`): an enrolled client.
        """
        return self._account(client_id).sample_rate

    def noise_multiplier(self, client_id: str) -> float:
        """Noise of the client's steps, over the clipping norm; searched for at the first call.

        Args:
            client_id (`str`): an enrolled client.
        """
        account = self._account(client_id)
        if account.noise_multiplier is None:
            account.noise_multiplier = self._budget.noise_multiplier(account)
        return account.noise_multiplier

    def epsilon(self, client_id: str) -> float:
        """What the client has spent so far, at the configured delta.

        Args:
            client_id (`str`): an enrolled client.
        """
        history = self._account(client_id).history
        if (known := self._reported.get(tuple(history))) is not None:
            return known
        return compute_epsilon(history, self.config.target_delta, self.config.accountant)

    def spent(self) -> dict[str, float]:
        """Epsilon of every client, by name."""
        return {client_id: self.epsilon(client_id) for client_id in self.accounts}

    def claim(self) -> str:
        """The guarantee in words, with the figures of the client that has spent most."""
        return privacy_claim(self.config, self.accounts, self.spent())

    def state_dict(self) -> dict[str, Any]:
        """Settings and accounts as JSON values, for the checkpoint of a round."""
        accounts = {client_id: account.to_dict() for client_id, account in self.accounts.items()}
        return {"format": FORMAT, "config": self.config.to_dict(), "clients": accounts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; clients enrolled since keep their accounts.

        Args:
            state (`dict`): what [`~PrivacyLedger.state_dict`] gave.

        Raises:
            ValueError: if settings that change what is spent differ, or a client is enrolled here with other values.
        """
        if state.get("format") != FORMAT:
            raise ValueError(f"a privacy ledger of format {state.get('format')!r}; this version reads {FORMAT}")
        check_entries(state, {"config": dict, "clients": dict})
        saved = DPConfig.from_dict(state["config"])
        pairs = {name: (getattr(saved, name), getattr(self.config, name)) for name in _ACCOUNTED}
        if differing := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
            words = "; ".join(f"`{name}`: {there!r} there, {here!r} here" for name, (there, here) in differing.items())
            raise ValueError(f"the ledger was kept under other settings ({words})")
        accounts = {client_id: ClientAccount.from_dict(values) for client_id, values in state["clients"].items()}
        for client_id in accounts.keys() & self.accounts.keys():
            self._check_plan(client_id, accounts[client_id])
        self.accounts |= accounts

    def save(self, path: str | Path) -> Path:
        """Write the ledger as JSON in one step, with what each client has spent and the claim in words.

        Args:
            path (`str` or `Path`): the file, or a folder for `privacy_ledger.json` in it.

        Returns:
            `Path`: the file.
        """
        path = _file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        spent = {client_id: _json_number(epsilon) for client_id, epsilon in self.spent().items()}
        content = {"claim": self.claim(), "epsilon": spent} | self.state_dict()
        write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path, config: DPConfig | None = None) -> "PrivacyLedger":
        """Read a saved ledger; needs no Opacus, also for what was spent when it was saved.

        Args:
            path (`str` or `Path`): the file, or the folder that holds `privacy_ledger.json`.
            config (`DPConfig`, *optional*): settings of the run that goes on; by default the saved ones.

        Raises:
            ValueError: for a file that is no ledger, and for other settings than the saved ones.
        """
        path = _file(path)
        try:
            content = read_json(path, {"config": dict, "epsilon": dict})
            ledger = cls(config or DPConfig.from_dict(content["config"]))
            ledger.load_state_dict(content)
            check_entries(content["epsilon"], dict.fromkeys(ledger.accounts, (int, float, str)))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as the privacy ledger of this run: {error}") from error
        with naming(path):
            for client_id, account in ledger.accounts.items():
                ledger._reported[tuple(account.history)] = float(content["epsilon"][client_id])
        return ledger

    def _account(self, client_id: str) -> ClientAccount:
        if client_id not in self.accounts:
            raise ValueError(f"client {client_id!r} is not enrolled in the privacy ledger")
        return self.accounts[client_id]

    def _check_plan(self, client_id: str, account: ClientAccount) -> None:
        here, other = self.accounts[client_id].plan(), account.plan()
        if differing := [f"`{name}` {here[name]} and {other[name]}" for name in here if here[name] != other[name]]:
            raise ValueError(f"client {client_id!r} is enrolled with other values: {', '.join(differing)}")


def _file(path: str | Path) -> Path:
    """`path`, or the ledger in it if it is a folder."""
    path = Path(path)
    return path / LEDGER_NAME if path.is_dir() else path


def _json_number(value: float) -> float | str:
    """`value`, with infinity as text: JSON has no number for it and `float` reads the text."""
    return value if abs(value) != float("inf") else "inf"
