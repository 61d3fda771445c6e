# SPDX-License-Identifier: Apache-2.0
"""A federation in one process: the same strategy and the same client app as on a SuperLink, without Ray and network."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid


try:  # internal to Flower, and needed to make a message outside of its own processes
    from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity
except ImportError as error:
    raise ImportError(
        f"flwr {version('flwr')} has moved what the in-process federation needs; it works with 1.41 and 1.42, "
        "`flwr run` with every later one"
    ) from error


class InProcessGrid(Grid):
    """Calls the client app directly, one client after the other, as the replies are read.

    Every client has a context of its own, whose state lasts as long as the grid, and gets a copy of its message. An
    exception in the client app becomes an error reply, as on a SuperNode. Since replies come one by one, memory does not
    grow with the number of clients.

    Use it in a `with` statement: Flower's messages want to know which process they are made in, which is undone at the end.

    Args:
        client_app (`ClientApp`): such as that of [`make_client_app`].
        nodes (`Sequence[Mapping]` or `int`): configuration of every node, `context.node_config` on the client; a number
            stands for so many nodes with `partition-id` and `num-partitions`, as in Flower's simulation.
        run_config (`Mapping`, *optional*): `context.run_config` of the clients.

    Example:

    ```python
    >>> from eigenhub.federated.flower import InProcessGrid
    >>> with InProcessGrid(client_app, nodes=6) as grid:  # doctest: +SKIP
    ...     result = strategy.run(grid)
    ```
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int | Sequence[Mapping[str, Any]],
        run_config: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(nodes, int):
            nodes = [{"partition-id": index, "num-partitions": nodes} for index in range(nodes)]
        if not nodes:
            raise ValueError("`nodes` must be at least one")
        self.client_app = client_app
        self.node_configs = {SUPERLINK_NODE_ID + 1 + index: dict(node) for index, node in enumerate(nodes)}
        self.run_config = dict(run_config or {})
        self.contexts: dict[int, Context] = {}
        self._run = Run.create_empty(run_id=1)
        self._message_ids = itertools.count(1)
        self._replies: dict[str, Message] = {}
        self._before: tuple[int | None, ...] | None = None

    def __enter__(self) -> "InProcessGrid":
        self._before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self._run.run_id, SUPERLINK_NODE_ID
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = self._before or (None, None, None)

    @property
    def run(self) -> Run:
        """Flower's record of the run."""
        return self._run

    def set_run(self, run: Run) -> None:
        """Replace Flower's record of the run.

        Args:
            run (`Run`): of any id.
        """
        self._run = run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node.

        Args:
            content (`RecordDict`): what it says.
            message_type (`str`): `"train"`, `"evaluate"` or `"query"`.
            dst_node_id (`int`): to whom.
            group_id (`str`): label of messages that belong together.
            ttl (`float`, *optional*): seconds that it is good for.
        """
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The ids of all nodes, ascending in the order of `nodes`."""
        return list(self.node_configs)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have messages answered at once; returns the ids under which [`~InProcessGrid.pull_messages`] has the replies.

        Args:
            messages (`Iterable[Message]`): to the nodes.
        """
        replies = [self._answer(message) for message in messages]
        self._replies |= {reply.metadata.reply_to_message_id: reply for reply in replies}
        return [reply.metadata.reply_to_message_id for reply in replies]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to messages that were pushed, once each.

        Args:
            message_ids (`Iterable[str]`): from [`~InProcessGrid.push_messages`].
        """
        return [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """The replies to messages, in their order, each computed when it is asked for.

        Args:
            messages (`Iterable[Message]`): to the nodes.
            timeout (`float`, *optional*): means nothing here, nobody can be late.
        """
        return map(self._answer, messages)

    def _answer(self, message: Message) -> Message:
        message = copy.deepcopy(message)  # all nodes are sent the same records, which an app may change
        message.metadata.__dict__["_message_id"] = str(next(self._message_ids))
        node_id = message.metadata.dst_node_id
        with self._on_node(node_id):
            context = copy.deepcopy(self._context(node_id))
            try:
                reply = self.client_app(message, context)
            except Exception as error:  # in the words of Flower's simulation, which forgets the state as well
                reason = f"{type(error)}:<'{error}'>"
                return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        self.contexts[node_id] = context
        return reply

    def _context(self, node_id: int) -> Context:
        if node_id not in self.node_configs:
            raise ValueError(f"there is no node {node_id}")
        if node_id not in self.contexts:
            config = self.node_configs[node_id]
            self.contexts[node_id] = Context(self._run.run_id, node_id, config, RecordDict(), self.run_config)
        return self.contexts[node_id]

    @contextmanager
    def _on_node(self, node_id: int) -> Iterator[None]:
        server = TaskIdentity._node_id
        TaskIdentity.node_id = node_id
        try:
            yield
        finally:
            TaskIdentity._node_id = server
