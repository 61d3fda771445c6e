# SPDX-License-Identifier: Apache-2.0
"""Steps that are run one after the other, each with its time and outcome on one line."""

import time
from collections.abc import Callable


class Report:
    """Runs steps, prints how each went and remembers those that failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def step(self, name: str, action: Callable[[], str]) -> bool:
        """Run one step.

        Args:
            name (`str`): shown in front.
            action (`Callable[[], str]`): does it, and returns what is worth a word; `AssertionError` is a failure.

        Returns:
            `bool`: whether it went well.
        """
        started = time.perf_counter()
        try:
            outcome, well = action(), True
        except AssertionError as error:
            self.failed.append(name)
            outcome, well = f"FAILED\n{error}", False
        print(f"{name:<26} {time.perf_counter() - started:5.0f} s  {outcome.strip()}", flush=True)
        return well
