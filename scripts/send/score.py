# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub"]
# ///
r"""Score prompts by how much a model's own answers disagree inside (EigenScore), with the baselines from the same pass.

Without a download (a small model that knows some facts is asked for others; the first time it is trained on the spot):

    python scripts/send/score.py --output runs/facts.parquet

Prompts from a JSONL file, with any model of the Hub or folder, adapters included; the run goes on where it was stopped:

    python scripts/send/score.py --model meta-llama/Llama-3.2-1B --prompts questions.jsonl --output scores.parquet

Answers that are there already, a list of two or more per line, are read instead of sampled:

    python scripts/send/score.py --model runs/send --prompts answered.jsonl --answers_column answers --output scores.parquet

How well each score tells wrong answers from right ones, on problems that end on a number:

    python scripts/send/score.py --model Qwen/Qwen2.5-0.5B-Instruct --prompts openai/gsm8k --dataset_config main \
        --split test --prompt_column question --reference_column answer --judge final_number --output gsm8k.parquet
"""

import argparse
from pathlib import Path
from typing import Any

from send_score_file import PartialFile, check_output

from eigenhub.training.arguments import parse_with_config
from eigenhub.training.options import EMBEDDED, FLAG, as_settings, make_parser, positive_int
from eigenhub.training.text_source import check_source


LAYERS = ("middle", "penultimate")
TOKENS = ("last", "mean", "mean_last")
CONVENTIONS = ("inside", "inside_paper", "send", "sample")
JUDGES = ("exact_match", "final_number")
# Say where a run goes or how fast, not what comes out of it.
FREE = ("output", "config", "fresh", "device")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_input_options(parser)
    add_scorer_options(parser)
    args = parse_with_config(parser, argv)
    try:
        check_arguments(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return args


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """What is scored, by which model, and where the scores go."""
    group = parser.add_argument_group("prompts and model")
    group.add_argument("--model", default=EMBEDDED, help="Hub id or folder; embedded (default): knows some facts")
    group.add_argument("--prompts", default=EMBEDDED, help="jsonl, json, csv, parquet, Hub id; embedded: other facts")
    group.add_argument("--dataset_config", help="configuration of a data set on the Hub")
    group.add_argument("--split", default="train", help="of a data set on the Hub; default: %(default)s")
    group.add_argument("--max_samples", type=positive_int, help="only the first rows; default: all")
    group.add_argument("--prompt_column", default="prompt", help="default: %(default)s")
    group.add_argument("--prompt_template", default="{prompt}", help="what the model reads; default: the prompt alone")
    group.add_argument("--answers_column", help="lists of answers to score; default: sample them")
    group.add_argument("--reference_column", help="right answer, or a list of them, to judge the model's by")
    group.add_argument("--judge", choices=JUDGES, default="exact_match", help="default: %(default)s")
    group.add_argument("--output", type=Path, required=True, help="parquet file to write, with a .json beside it")
    group.add_argument("--fresh", action=FLAG, default=False, help="drop what an earlier run has written")


def add_scorer_options(parser: argparse.ArgumentParser) -> None:
    """How answers are drawn and read; by default as in INSIDE."""
    group = parser.add_argument_group("score")
    group.add_argument("--layer", default="middle", help="middle (default), penultimate, or an index of hidden_states")
    group.add_argument("--token", choices=TOKENS, default="last", help="of an answer; default: %(default)s")
    group.add_argument("--convention", choices=CONVENTIONS, default="inside", help="default: %(default)s")
    group.add_argument("--alpha", type=float, help="added to the eigenvalues; default: by the convention")
    group.add_argument("--num_samples", type=int, default=10, help="answers per prompt; default: %(default)s")
    group.add_argument("--temperature", type=float, default=0.5, help="default: %(default)s")
    group.add_argument("--top_p", type=float, default=0.99, help="default: %(default)s")
    group.add_argument("--top_k", type=positive_int, default=10, help="default: %(default)s")
    group.add_argument("--max_new_tokens", type=positive_int, default=256, help="default: %(default)s")
    group.add_argument("--batch_size", type=positive_int, default=8, help="prompts at a time; default: %(default)s")
    group.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="%(default)s"
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, ...; default: %(default)s")
    group.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def check_arguments(args: argparse.Namespace) -> None:
    """Raises for whatever can be known to fail before a model is loaded."""
    if args.layer not in LAYERS and not args.layer.removeprefix("-").isdecimal():
        raise ValueError(f"--layer must be middle, penultimate or an integer, got {args.layer!r}")
    if args.num_samples < 2:
        raise ValueError(f"--num_samples must be at least 2, one answer has no diversity; got {args.num_samples}")
    if not args.temperature > 0:
        raise ValueError(f"--temperature must be above 0, where all answers are the same, got {args.temperature}")
    if args.top_k == 1:
        raise ValueError("--top_k must not be 1, where all answers are the same")
    if not 0 < args.top_p <= 1:
        raise ValueError(f"--top_p must be above 0 and at most 1, got {args.top_p}")
    if args.alpha is not None and not args.alpha > 0:
        raise ValueError(f"--alpha must be positive, got {args.alpha}")
    if "{prompt}" not in args.prompt_template:
        raise ValueError(f"--prompt_template must contain {{prompt}}, got {args.prompt_template!r}")
    if args.model.startswith((".", "/", "~")) and not Path(args.model).expanduser().is_dir():
        raise FileNotFoundError(f"--model: no such folder: {args.model}")
    if args.prompts == EMBEDDED and (args.answers_column or args.reference_column):
        raise ValueError("--answers_column and --reference_column are for --prompts: the facts bring their answers")
    if args.prompts != EMBEDDED:
        check_source(args.prompts)
        if args.model == EMBEDDED:
            raise ValueError("--model embedded knows the words of the embedded facts only: name a model for --prompts")
    check_output(args.output, args.fresh)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Scores, writes, and returns the summary."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from send_score_rows import PromptRows, load_prompts, load_scorer, summarise, to_row
    from tqdm.auto import tqdm

    rows: PromptRows = load_prompts(args)
    settings = {name: value for name, value in as_settings(args).items() if name not in FREE}
    partial = PartialFile(args.output, {**settings, "prompts_digest": rows.digest}, args.batch_size, args.fresh)
    if partial.done:
        print(f"resumed after {partial.done} of {len(rows.prompts)} prompts")
    scorer = load_scorer(args) if partial.done < len(rows.prompts) else None
    starts = range(partial.done, len(rows.prompts), args.batch_size)
    for start in tqdm(starts, "scoring", disable=scorer is None):
        assert scorer is not None
        scorer.seed = args.seed + start  # of the batch, so that a run that goes on draws the same answers
        part = slice(start, start + args.batch_size)
        prompts = rows.prompts[part]
        scored = scorer.score(prompts, rows.answers[part]) if rows.answers else scorer.generate_and_score(prompts)
        partial.write([to_row(args, rows, start + number, score) for number, score in enumerate(scored)])
    found = partial.finish()
    summary = summarise(args, found)
    partial.write_summary(summary)
    return summary


if __name__ == "__main__":
    main()
