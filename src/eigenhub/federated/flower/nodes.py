# SPDX-License-Identifier: Apache-2.0
"""The nodes of a grid and the order of their replies."""

import time
from collections.abc import Iterable, Iterator

from flwr.app import Message
from flwr.serverapp import Grid
from transformers.utils import logging


logger = logging.get_logger(__name__)


def connected_nodes(grid: Grid, least: int, timeout: float | None = None) -> list[str]:
    """Ids of all nodes in ascending order, once there are enough.

    Args:
        grid (`Grid`): tells the nodes.
        least (`int`): how many are enough.
        timeout (`float`, *optional*): seconds after which it stops to wait; by default never.

    Raises:
        TimeoutError: after that time.
    """
    started = time.monotonic()
    while len(nodes := sorted(grid.get_node_ids())) < least:
        waited = time.monotonic() - started
        if timeout is not None and waited > timeout:
            raise TimeoutError(
                f"{len(nodes)} nodes have connected after {waited:.0f} seconds, `min_available_nodes` is {least}"
            )
        logger.info("waiting for nodes: %d of %d are connected", len(nodes), least)
        time.sleep(1)
    return [str(node) for node in nodes]


def by_node(replies: Iterable[Message]) -> Iterable[Message]:
    """Replies by ascending node id, so that floating sums have one order.

    Args:
        replies (`Iterable[Message]`): an iterator is taken as it comes, since it may be longer than memory allows.
    """
    return replies if isinstance(replies, Iterator) else sorted(replies, key=lambda reply: reply.metadata.src_node_id)
