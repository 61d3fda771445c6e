# SPDX-License-Identifier: Apache-2.0
"""The server's side on Flower: the rounds of [`FederatedServer`] as a strategy."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from peft import PeftModel
from transformers.utils import logging

from eigenhub.federated.base_weights import BaseWeights
from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.downlink import num_bytes
from eigenhub.federated.flower.client_privacy import ClientDPConfig, ClientPrivacy
from eigenhub.federated.flower.figures import WeightedMean
from eigenhub.federated.flower.messages import ARRAYS, CONFIG, METRICS, NUM_EXAMPLES, RoundRequest, records_to_update
from eigenhub.federated.flower.nodes import by_node, connected_nodes
from eigenhub.federated.flower.records import arrays_to_peft, peft_to_arrays, wire_dtypes
from eigenhub.federated.lora_model import check_lora_model, lora_scalings, read_adapter, write_adapter
from eigenhub.federated.recipes import recipe_of
from eigenhub.federated.refactor_model import prepare_adapter_
from eigenhub.federated.round_files import latest_round, write_round
from eigenhub.federated.sampling import most_participations, sample_clients
from eigenhub.federated.saving import save_adapter
from eigenhub.federated.server import FederatedServer
from eigenhub.federated.updates import ClientUpdate, QuorumError, RejectedUpdate


logger = logging.get_logger(__name__)


class FedSVDStrategy(FedAvg):
    """FedSVD and its relatives on Flower: every method of [`aggregate`], by the server of the embedded trainer.

    Clients are those of [`make_client_app`]. A reply that is an error, late, of another round, a second one of its node,
    misshapen or not finite, or whose client has changed a factor it must leave alone, is named in the log and in
    `history` and the round goes on; below `min_clients` of the configuration it stops, with the state before it saved.
    Who takes part depends on `seed` and round of the configuration alone.

    Args:
        config (`FedSVDConfig`): method, rounds, fraction of the nodes in a round, quorum.
        model (`PeftModel`): with the adapter to start from; the server needs it for the result and does not train it.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter of the model.
        fraction_evaluate (`float`, *optional*, defaults to 1.0): share of the nodes that evaluate, every `eval_every`
            rounds; 0 for none. Under differential privacy nobody is asked unless `private_metrics` is set.
        min_available_nodes (`int`, *optional*, defaults to 2): connected nodes that a round waits for.
        connect_timeout (`float`, *optional*): seconds after which it stops to wait; by default never.
        output_dir (`str` or `Path`, *optional*): where the state of the rounds goes.
        save_total_limit (`int`, *optional*, defaults to 2): saved rounds that stay.
        client_dp (`ClientDPConfig`, *optional*): privacy of whole clients, by clipping and noise on the server; see
            [`ClientPrivacy`]. That of single examples is `dp` of the configuration, and both may be set.

    Attributes:
        server (`FederatedServer`): state of the adapter.
        history (`list[dict]`): one record per round: clients, failures, bytes, figures.

    Raises:
        ValueError: for an adapter that cannot be federated.

    Example:

    ```python
    >>> from eigenhub.federated.flower import FedSVDStrategy
    >>> @app.main()  # doctest: +SKIP
    ... def main(grid, context):
    ...     strategy = FedSVDStrategy(FedSVDConfig(num_rounds=20), model)
    ...     strategy.run(grid)
    ...     strategy.save_pretrained("adapter")
    ```
    """

    def __init__(
        self,
        config: FedSVDConfig,
        model: PeftModel,
        adapter_name: str = "default",
        fraction_evaluate: float = 1.0,
        min_available_nodes: int = 2,
        connect_timeout: float | None = None,
        output_dir: str | Path | None = None,
        save_total_limit: int = 2,
        client_dp: ClientDPConfig | None = None,
    ) -> None:
        super().__init__(
            fraction_train=config.client_fraction,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=config.min_clients,
            min_evaluate_nodes=1,
            min_available_nodes=max(min_available_nodes, config.min_clients),
            weighted_by_key=NUM_EXAMPLES,
            arrayrecord_key=ARRAYS,
            configrecord_key=CONFIG,
        )
        check_lora_model(model, adapter_name)
        self.config, self.model, self.adapter_name = config, model, adapter_name
        self.connect_timeout = connect_timeout
        self.output_dir = Path(output_dir) if output_dir is not None else None
        self.save_total_limit = save_total_limit
        self.history: list[dict[str, Any]] = []
        self.client_privacy = ClientPrivacy(client_dp, config) if client_dp is not None else None
        prepare_adapter_(model, config, adapter_name)
        self._base = BaseWeights(model, adapter_name) if recipe_of(config.method).moves_base else None
        self.server = FederatedServer(config, read_adapter(model, adapter_name), lora_scalings(model, adapter_name))
        self._participations: int | None = None
        self._served: set[str] = set()
        self._asked: list[str] = []

    @property
    def arrays(self) -> ArrayRecord:
        """The whole adapter as it stands, for `start(initial_arrays=...)`."""
        return peft_to_arrays(self.server.state)

    def run(
        self,
        grid: Grid,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds that are left; [`~Strategy.start`] with the numbers of the configuration.

        Args:
            grid (`Grid`): from Flower, or an [`InProcessGrid`].
            timeout (`float`, *optional*, defaults to 3600): seconds that a round waits for replies.
            train_config (`ConfigRecord`, *optional*): settings of your own that clients are sent along.
            evaluate_fn (`Callable`, *optional*): evaluates on the server; round and adapter to figures.

        Raises:
            QuorumError: too few usable replies in a round.
        """
        return self.start(
            grid,
            initial_arrays=self.arrays,
            num_rounds=self.config.num_rounds - self.server.round,
            timeout=timeout,
            train_config=train_config,
            evaluate_fn=evaluate_fn,
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The requests of a round, by ascending node id.

        Args:
            server_round (`int`): of this call of `start`; rounds of a resumed run count on from the saved one.
            arrays (`ArrayRecord`): the adapter, which must be that of the strategy.
            config (`ConfigRecord`): sent along.
            grid (`Grid`): tells the nodes.

        Raises:
            ValueError: for arrays that are not those of this strategy.
            TimeoutError: if too few nodes have connected after `connect_timeout`.
        """
        self._check_arrays(arrays)
        nodes = connected_nodes(grid, self.min_available_nodes, self.connect_timeout)
        if self._participations is None:
            self._participations = most_participations(len(nodes), self.config)
        self._asked = sample_clients(nodes, self.server.round + 1, self.config)
        if self.client_privacy is not None:
            self.client_privacy.plan(self._participations)
            self._asked = self.client_privacy.allowed(self._asked)
        self.server.open_round()
        self._num_taken = 0
        record = {"round": self.server.round + 1, "clients": self._asked, "download_bytes": 0, "upload_bytes": 0}
        self.history.append(record)
        return self._messages(self._asked, MessageType.TRAIN, self.server.round + 1, config, record)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the usable replies and refactor; returns the whole adapter and the clients' mean figures.

        Args:
            server_round (`int`): of this call of `start`.
            replies (`Iterable[Message]`): of any order and content; those of an iterator are taken one by one as they
                come, and must come by ascending node id for the same bits as in other runs.

        Raises:
            QuorumError: fewer usable replies than `min_clients`; the state before the round is kept, and saved.
        """
        record = self.history[-1]
        silent, metrics = dict.fromkeys(self._asked), WeightedMean()
        for reply in by_node(replies):
            node = str(reply.metadata.src_node_id)
            silent.pop(node, None)
            self._take(node, reply, record, metrics)
        for node in silent:
            self._fail(node, "has not replied in time")
        record["failures"] = self.server.failures
        self._fill_up()
        try:
            result = self.server.close_round()
        except QuorumError:
            self._save_round()
            raise
        if self.client_privacy is not None:
            record["client_epsilon"] = self.client_privacy.epsilon()
        record |= metrics.values
        record["singular_values"] = {name: s.tolist() for name, s in result.singular_values.items()}
        if self.server.round % self.config.checkpoint_every == 0 or self.server.round == self.config.num_rounds:
            self._save_round()
        return self.arrays, MetricRecord(metrics.values) if metrics.values else None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The requests to evaluate the adapter on the clients' held-out rows; none where their figures stay private.

        Args:
            server_round (`int`): of this call of `start`.
            arrays (`ArrayRecord`): the adapter, which must be that of the strategy.
            config (`ConfigRecord`): sent along.
            grid (`Grid`): tells the nodes.
        """
        round = self.server.round
        due = round % self.config.eval_every == 0 or round == self.config.num_rounds
        is_private = (self.config.dp or self.client_privacy) and not self.config.private_metrics
        if not due or is_private or self.fraction_evaluate == 0:
            return []
        self._check_arrays(arrays)
        nodes = connected_nodes(grid, self.min_available_nodes, self.connect_timeout)
        drawn = dataclasses.replace(self.config, client_fraction=self.fraction_evaluate, client_sampling="uniform")
        chosen = sample_clients(nodes, round, drawn)
        return self._messages(chosen, MessageType.EVALUATE, round, config)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Means of the clients' figures, weighted by their rows, and the lowest of each; failures are left out by name.

        Args:
            server_round (`int`): of this call of `start`.
            replies (`Iterable[Message]`): of any content.
        """
        means = WeightedMean()
        for reply in by_node(replies):
            if reply.has_error():
                self._served.discard(str(reply.metadata.src_node_id))
                logger.info("node %d does not evaluate: %s", reply.metadata.src_node_id, reply.error.reason)
                continue
            try:
                scores = {name: float(value) for name, value in reply.content[METRICS].items()}
                weight = scores.pop(NUM_EXAMPLES)
                means.add(scores, weight)
            except (KeyError, TypeError, ValueError) as error:
                logger.warning("the evaluation of node %d is left out: %s", reply.metadata.src_node_id, error)
        if self.history and means.values:
            self.history[-1] |= means.values
        return MetricRecord(means.values) if means.values else None

    def load_global(self) -> PeftModel:
        """The model of the server with the adapter, and what was added to the base weights, as they stand."""
        if self._base is not None:
            self._base.write(self.server.base_sums)
        write_adapter(self.model, self.server.state, self.adapter_name)
        return self.model

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Write the adapter as stock PEFT loads it, and the configuration of the run.

        Args:
            save_directory (`str` or `Path`): folder, made if necessary.

        Returns:
            `Path`: where the adapter lies.
        """
        self.load_global()
        folder = save_adapter(self.model, Path(save_directory), self.server, adapter_name=self.adapter_name)
        if self.client_privacy is not None:
            self.client_privacy.save(folder)
        return folder

    def resume(self, folder: str | Path | None = None) -> int:
        """Go on after a saved round.

        Args:
            folder (`str` or `Path`, *optional*): of the round; by default the newest complete one of `output_dir`.

        Returns:
            `int`: rounds that are finished; 0 if nothing was saved.
        """
        if folder is None:
            folder = latest_round(self.output_dir) if self.output_dir is not None else None
        if folder is not None:
            self.server.load(Path(folder))
            if self.client_privacy is not None:
                self.client_privacy.load(Path(folder))
        return self.server.round

    def _take(self, node: str, reply: Message, record: dict[str, Any], metrics: WeightedMean) -> None:
        """One reply into the open round, or its failure into the record of it."""
        if reply.has_error():
            self._served.discard(node)
            self._fail(node, str(reply.error.reason))
            return
        try:
            if node not in self._asked:
                raise ValueError("was not asked in this round")
            update = records_to_update(reply.content, client_id=node)
            if self.client_privacy is not None:
                update = self.client_privacy.protected(update, self.server.state)
            self.server.accept(update)
        except RejectedUpdate as error:
            self._fail(node, error.reason)
        except ValueError as error:
            self._fail(node, str(error))
        else:
            self._served.add(node)
            self._num_taken += 1
            if self.client_privacy is not None:
                self.client_privacy.entered(node)
            record["upload_bytes"] += num_bytes(update.state)
            metrics.add(update.metrics, 1.0 if self.config.weighting == "uniform" else update.num_examples)

    def _fill_up(self) -> None:
        """Under privacy of clients the sum is divided by all that were asked: the others count as unchanged."""
        if self.client_privacy is None or self._num_taken < self.config.min_clients:
            return
        unchanged = {key: self.server.state[key] for key in self.server.upload_keys}
        for index in range(len(self._asked) - self._num_taken):
            self.server.accept(
                ClientUpdate(
                    f"unchanged {index}", self.server.round + 1, unchanged, 1, fingerprint=self.server.fingerprint()
                )
            )

    def _fail(self, node: str, reason: str) -> None:
        self.server.note_failure(node, reason)
        logger.warning("round %d goes on without node %s: %s", self.server.round + 1, node, reason)

    def _messages(
        self, nodes: list[str], kind: str, round: int, config: ConfigRecord, record: dict[str, Any] | None = None
    ) -> list[Message]:
        """One message per node; what does not change over the run goes to those that have not answered yet."""
        once = self.server.sent_once()
        request = RoundRequest(
            round=round,
            factors=self.server.factors,
            config=self.config,
            participations=self._participations or 1,
            fingerprint=self.server.fingerprint(),
            payload={key: tensor for key, tensor in self.server.broadcast().items() if key not in once},
            base_sums=self.server.base_sums,
        )
        content = {True: request.to_records(config)}
        if not self._served.issuperset(nodes):
            content[False] = dataclasses.replace(request, once=once).to_records(config)
        if record is not None:
            record["download_bytes"] = request.num_bytes() * len(nodes)
            record["download_bytes"] += num_bytes(once) * len(set(nodes) - self._served)
        return [Message(content[n in self._served], message_type=kind, dst_node_id=int(n)) for n in nodes]

    def _check_arrays(self, arrays: ArrayRecord) -> None:
        """Take a user's own initial arrays before the first round; afterwards they must be what was returned."""
        given = arrays_to_peft(arrays, wire_dtypes(self.server.state))
        state = self.server.state
        if given.keys() != state.keys() or any(given[key].shape != state[key].shape for key in state):
            raise ValueError(
                "`arrays` are not those of the strategy's adapter: start with `initial_arrays=strategy.arrays`"
            )
        if all(given[key].equal(state[key].cpu()) for key in state):
            return
        if self.server.round:
            raise ValueError(f"`arrays` are not those that round {self.server.round} has returned")
        self.server = FederatedServer(self.config, given, self.server.scalings)

    def _save_round(self) -> None:
        def write(folder: Path) -> None:
            self.server.save(folder)
            if self.client_privacy is not None:
                self.client_privacy.save(folder)

        if self.output_dir is not None:
            write_round(self.output_dir, self.server.round, write, self.save_total_limit)
