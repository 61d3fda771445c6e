# SPDX-License-Identifier: Apache-2.0
"""The server of the federation."""

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from eigenhub.federated.evaluation import Evaluator
from eigenhub.federated.flower import FedSVDStrategy
from fedsvd_app.task import accuracy, federation_of, make_collator, make_model, server_data, training_arguments


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, evaluate after each, and leave an adapter that stock PEFT loads."""
    run = context.run_config
    output_dir = Path(str(run["output-dir"])) if run["output-dir"] else None
    strategy = FedSVDStrategy(
        federation_of(run),
        make_model(run),
        fraction_evaluate=float(run["fraction-evaluate"]),
        min_available_nodes=int(run["min-available-nodes"]),
        output_dir=output_dir,
    )
    evaluator = Evaluator(strategy.model, training_arguments(run), make_collator(run), accuracy)
    rows = server_data(run)

    def evaluate(round: int, arrays: ArrayRecord) -> MetricRecord:
        strategy.load_global()
        return MetricRecord(evaluator(rows))

    result = strategy.run(grid, evaluate_fn=evaluate)
    if output_dir is not None:
        strategy.save_pretrained(output_dir / "adapter")
        figures = {round: dict(record) for round, record in result.evaluate_metrics_serverapp.items()}
        content = {"rounds": strategy.history, "server": figures}
        (output_dir / "history.json").write_text(json.dumps(content, indent=2) + "\n")
