# SPDX-License-Identifier: Apache-2.0
"""What one client may still spend, and what it has spent: a line of the privacy ledger."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from eigenhub.federated.accounting import Steps
from eigenhub.federated.dp_config import check_count
from eigenhub.files import check_entries, field_kinds


PLAN = ("num_examples", "sample_rate", "steps_per_round", "max_participations")


@dataclass
class ClientAccount:
    """Plan and history of one client.

    Args:
        num_examples (`int`): its examples.
        sample_rate (`float`): probability of each to be in a batch.
        steps_per_round (`int`): most private steps in one round.
        max_participations (`int`): most rounds.
        noise_multiplier (`float`, *optional*): `None` until it is searched for.
        participations (`int`, *optional*, defaults to 0): rounds so far.
        last_round (`int`, *optional*, defaults to 0): the latest of them.
        history (`list[tuple[float, float, int]]`, *optional*): runs of equal steps, so its length does not grow with the
            number of rounds.
    """

    num_examples: int
    sample_rate: float
    steps_per_round: int
    max_participations: int
    noise_multiplier: float | None = None
    participations: int = 0
    last_round: int = 0
    history: list[Steps] = field(default_factory=list)

    @property
    def planned_steps(self) -> int:
        """All private steps that the client may ever take."""
        return self.steps_per_round * self.max_participations

    @property
    def steps(self) -> int:
        """Private steps taken."""
        return sum(steps for _, _, steps in self.history)

    @property
    def exhausted(self) -> bool:
        """Whether the client has no round left."""
        return self.participations >= self.max_participations

    def plan(self) -> dict[str, int | float]:
        """What was agreed at enrolment."""
        return {name: getattr(self, name) for name in PLAN}

    def record(self, round: int, steps: int, noise_multiplier: float) -> None:
        """Enter a round.

        Args:
            round (`int`): number of the round, larger than that of the last one entered.
            steps (`int`): private steps taken in it.
            noise_multiplier (`float`): their noise.

        Raises:
            ValueError: for a second entry in a round, an entry out of order and one beyond a cap.
        """
        if check_count("round", round) <= self.last_round:
            raise ValueError(f"`round={round}` is entered already or late: the last one entered is {self.last_round}")
        if self.exhausted:
            raise ValueError(f"the budget is spent: {self.participations} of {self.max_participations} participations")
        if check_count("steps", steps) > self.steps_per_round:
            raise ValueError(f"`steps` must be at most {self.steps_per_round} a round, got {steps}")
        self.participations += 1
        self.last_round = round
        if self.history and self.history[-1][:2] == (noise_multiplier, self.sample_rate):
            steps += self.history.pop()[2]
        self.history.append((noise_multiplier, self.sample_rate, steps))

    def to_dict(self) -> dict[str, Any]:
        """The line as JSON values."""
        return dataclasses.asdict(self) | {"history": [list(run) for run in self.history]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ClientAccount":
        """The account of [`~ClientAccount.to_dict`].

        Args:
            values (`dict`): its fields.

        Raises:
            ValueError: for fields that are missing or unknown.
        """
        try:
            _check_fields(cls, values)
        except ValueError as error:
            raise ValueError(f"not an account of the privacy ledger: {error}") from error
        return cls(**(values | {"history": [tuple(run) for run in values["history"]]}))


def _check_fields(account: type, values: dict[str, Any]) -> None:
    check_entries({"account": values}, {"account": dict})
    kinds = field_kinds(account)
    check_entries(values, kinds)
    if unknown := sorted(values.keys() - kinds.keys()):
        raise ValueError(f"the entry `{unknown[0]}` is unknown")
    counts = [value for name, value in values.items() if name not in ("history", "noise_multiplier")]
    if not all(_is_run(run) for run in values["history"]):
        raise ValueError("`history` must list noise, sample rate and steps")
    if min([*counts, *(run[2] for run in values["history"])]) < 0 or not 0 < values["sample_rate"] <= 1:
        raise ValueError("numbers must not be negative, and `sample_rate` above 0 and at most 1")


def _is_run(run: Any) -> bool:
    return (
        isinstance(run, list | tuple)
        and len(run) == 3
        and all(type(number) in (int, float) for number in run)
        and type(run[2]) is int
    )
