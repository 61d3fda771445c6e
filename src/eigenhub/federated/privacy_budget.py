# SPDX-License-Identifier: Apache-2.0
"""Whether a client's planned steps fit the target, and the noise that makes them fit."""

import warnings

from eigenhub.federated.accounting import compute_epsilon, find_noise_multiplier
from eigenhub.federated.client_account import ClientAccount
from eigenhub.federated.dp_config import DPConfig


class PrivacyBudget:
    """The target of a configuration, asked about plans.

    Args:
        config (`DPConfig`): target, accountant and possibly a fixed noise.
    """

    def __init__(self, config: DPConfig) -> None:
        self.config = config
        self._affordable: dict[int, float] = {}

    def noise_multiplier(self, account: ClientAccount) -> float:
        """The fixed noise, or the least that keeps all planned steps within the target.

        Args:
            account (`ClientAccount`): a plan.

        Raises:
            ValueError: if no noise does.
        """
        config = self.config
        if config.noise_multiplier is not None or config.target_epsilon is None:
            return float(config.noise_multiplier or 0.0)
        return find_noise_multiplier(
            config.target_epsilon, config.target_delta, account.sample_rate, account.planned_steps, config.accountant
        )

    def check(self, client_id: str, account: ClientAccount) -> None:
        """Raise `ValueError` if the planned steps of a client cannot stay within the target.

        Epsilon grows with the sample rate, so one answer covers all clients of lower ones: of a thousand different clients
        a handful are looked at here, the others when their noise is first needed.

        Args:
            client_id (`str`): name, for the message.
            account (`ClientAccount`): its plan.
        """
        target, steps = self.config.target_epsilon, account.planned_steps
        if target is None or account.sample_rate <= self._affordable.get(steps, 0.0):
            return
        try:
            run = (self.noise_multiplier(account), account.sample_rate, steps)
        except ValueError as error:
            raise ValueError(f"client {client_id!r}: {error}") from None
        planned = compute_epsilon([run], self.config.target_delta, self.config.accountant)
        if planned > target:
            raise ValueError(
                f"`noise_multiplier={run[0]}` costs client {client_id!r} an epsilon of {planned:.4g} over its {steps} steps of "
                f"rate {account.sample_rate:.4g}, more than `target_epsilon={target}`"
            )
        self._affordable[steps] = account.sample_rate

    def warn(self, client_id: str, account: ClientAccount, batch_size: int) -> None:
        """Warn of plans that are sound and promise little.

        Args:
            client_id (`str`): name, for the message.
            account (`ClientAccount`): its plan.
            batch_size (`int`): expected size of a batch.
        """
        if account.num_examples < batch_size:
            warnings.warn(
                f"client {client_id!r} has {account.num_examples} examples, fewer than the expected batch of {batch_size}: "
                "every step uses all of them (q = 1), so it needs much noise or spends a large epsilon",
                stacklevel=3,
            )
        if self.config.target_delta * account.num_examples >= 1:
            warnings.warn(
                f"`target_delta={self.config.target_delta}` is not below 1 / {account.num_examples}, one over the examples of "
                f"client {client_id!r}: such a guarantee would allow publishing a whole example",
                stacklevel=3,
            )
