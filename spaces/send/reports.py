# SPDX-License-Identifier: Apache-2.0
"""What a score, a threshold and a matrix have come to, in sentences, tiles and tables."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from names import CONVENTIONS, DETECTORS, LAYERS, MODELS, TOKENS, YOUDEN

from eigenhub.hub.space import html_table, tiles


Values = Mapping[str, Any]

WORDS = {"right": "right", "wrong": "wrong", "refused": "refused"}
DOTS = {"right": "#0d9488", "wrong": "#dc2626", "refused": "#d97706", None: "#94a3b8"}
LONGEST = 120


def model_words(settings: Values) -> str:
    """A model as the page calls it."""
    return MODELS.get(settings["model"], settings["model"])


def settings_words(settings: Values) -> str:
    """What a threshold holds for."""
    layer = LAYERS.get(settings["layer"], settings["layer"])
    top_k = settings["top_k"] or "off"
    return (
        f"{model_words(settings)} · layer {layer} · {TOKENS[settings['token']]} · {CONVENTIONS[settings['convention']]} · "
        f"K = {settings['num_samples']} · temperature {settings['temperature']:g} · top-p {settings['top_p']:g} · "
        f"top-k {top_k} · up to {settings['max_new_tokens']} tokens"
    )


def verdict_words(record: Values | None, judged: Values | None) -> str:
    """The score against the threshold, in plain words; withheld where the two do not belong together."""
    if record is None or judged is None:
        return "Nothing is scored yet."
    answer = answer_words(record)
    if not judged["fits"]:
        return (
            f"{answer}\n\n**No verdict.** EigenScore {record['eigenscore']:.3f} means nothing by itself, and the threshold does "
            f"not belong to this score: {'; '.join(judged['misfits'])}. Calibrate with these settings."
        )
    side = (
        "Above the threshold: not to be trusted"
        if judged["above"]
        else "Not above the threshold: the model is sure enough"
    )
    return f"{answer}\n\n**{side}.** {rank_words(judged)}{same_words(record)}"


def rank_words(judged: Values) -> str:
    """How many of the calibration's prompts are less or more certain."""
    same = f", and as certain as {judged['as_certain']:.0%}" if judged["as_certain"] >= 0.005 else ""
    if judged["less_certain"] >= judged["more_certain"]:
        return f"More certain than {judged['less_certain']:.0%} of the calibration prompts{same}."
    return f"Less certain than {judged['more_certain']:.0%} of the calibration prompts{same}."


def same_words(record: Values) -> str:
    """A warning where the answers say nothing, or are empty."""
    count = record["settings"]["num_samples"]
    words = f" All {count} answers are the same." if record["num_distinct"] == 1 else ""
    if record["empty"]:
        words += f" {record['empty']} of {count} answers are empty."
    return words


def answer_words(record: Values) -> str:
    """The likeliest answer, and what it is worth where that is known."""
    said = f"It answers **{plain_text(record['greedy'] or '') or '(nothing)'}**."
    if record["verdict"] is None:
        return said
    worth = {
        "right": "That is right",
        "wrong": f"That is **wrong**: the truth is {record['truth']}",
        "refused": f"It declines; the truth is {record['truth']}",
    }[record["verdict"]]
    return f"{said} {worth}. The question is about {record['kind']}."


def plain_text(text: str) -> str:
    """A model's text as words on a page: one line, and nothing that Markdown would read as its own."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
    return "".join(f"&#{ord(letter)};" if not letter.isalnum() and letter != " " else letter for letter in line)


def score_tiles(record: Values, judged: Values) -> str:
    """EigenScore beside its threshold, and the baselines that cost nothing."""
    count = record["settings"]["num_samples"]
    against = f"threshold {judged['threshold']:.3f}" if judged["fits"] else "no threshold fits"
    return tiles(
        [
            ("EigenScore", f"{record['eigenscore']:.3f}", against),
            (
                "Length-normalised entropy",
                f"{record['length_normalized_entropy']:.3f}",
                "nats per token of the answers",
            ),
            ("Mean token entropy", f"{record['mean_token_entropy']:.3f}", "nats, of the tokens' distributions"),
            ("Distinct answers", f"{record['num_distinct']} of {count}", "different texts"),
            ("1 − mode share", f"{record['one_minus_mode_share']:.2f}", "not the commonest answer"),
            ("Length", f"{record['mean_length']:.1f}", "tokens, end included: scores follow it"),
        ]
    )


def answers_table(record: Values) -> str:
    """The sampled answers, equal ones together."""
    rows, colors = [], []
    for answer in record["answers"]:
        line = " ".join(answer["text"].split()) or "(empty)"
        line = line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
        worth = [WORDS[answer["verdict"]]] if "verdict" in answer else []
        rows.append([line, str(answer["count"]), f"{answer['log_prob']:.2f}", str(answer["tokens"]), *worth])
        colors.append(DOTS[answer.get("verdict")])
    worth = ["worth"] if "verdict" in record["answers"][0] else []
    return html_table(
        [f"answer, of {record['settings']['num_samples']}", "times", "log p", "tokens", *worth], rows, colors
    )


def calibration_words(calibration: Values | None, misfits: Sequence[str] = ()) -> str:
    """Where the threshold lies, why, and whether it still fits what is chosen above."""
    if calibration is None:
        return "No threshold yet: calibrate first."
    count, wrong = calibration["num_prompts"], calibration["num_wrong"]
    if calibration["by"] == YOUDEN:
        why = (
            f"It catches most wrong answers for the fewest right ones lost (Youden's J = {calibration['youden_j']:.2f}, on these "
            f"same prompts; on others it will be less). {wrong} of {count} answers are wrong."
        )
    else:
        why = f"{calibration['share']:.0%} of {count} prompts do not exceed it{_why_no_youden(calibration)}."
    fits = f"**It no longer fits:** {'; '.join(misfits)}. Verdicts are withheld.\n\n" if misfits else ""
    return f"{fits}Threshold **{calibration['threshold']:.3f}**. {why}\n\nIt holds for {escape(settings_words(calibration['settings']))}."


def _why_no_youden(calibration: Values) -> str:
    if calibration["asked_by"] != YOUDEN:
        return ""
    if calibration["num_wrong"] is None:
        return "; Youden's J needs right answers, and none were given"
    if calibration["auroc"]:
        return "; Youden's J is of no help, for wrong answers do not score higher here"
    kind = "wrong" if calibration["num_wrong"] else "right"
    return f"; Youden's J needs right and wrong answers, and all are {kind}"


def auroc_table(calibration: Values) -> str:
    """How well each score tells wrong answers from right ones."""
    if not calibration["auroc"]:
        return ""
    best = max(calibration["auroc"].values())
    rows = [
        [DETECTORS[name], f"{value:.3f}", "best here" if value == best else ""]
        for name, value in sorted(calibration["auroc"].items(), key=lambda item: -item[1])
    ]
    return html_table(["score", "AUROC", ""], rows)


def scored_rows(calibration: Values, most: int = 12) -> str:
    """The most uncertain prompts of the calibration; all of them are in the file."""
    rows = sorted(calibration["rows"], key=lambda row: -row["eigenscore"])[:most]
    known = calibration["num_wrong"] is not None
    cells, colors = [], []
    for row in rows:
        right = None if not known else "right" if row["right"] else "wrong"
        reference = [_short(row["reference"])] if known else []
        cells.append(
            [_short(row["prompt"], 60), f"{row['eigenscore']:.3f}", _short(row["answer"] or "(empty)"), *reference]
        )
        colors.append(DOTS[right])
    headers = [
        "the least certain prompts; red: wrong" if known else "the least certain prompts",
        "EigenScore",
        "answer",
        *(["right answer"] if known else []),
    ]
    return html_table(headers, cells, colors)


def _short(text: str, most: int = 30) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def matrix_table(found: Values) -> str:
    """EigenScore of a visitor's embeddings in every convention, and EES."""
    rows = [[CONVENTIONS[name], f"{entry['eigenscore']:.4f}"] for name, entry in found["conventions"].items()]
    rows.append(["EES with its coefficients right, 20 moments, exact trace", f"{found['ees']:.4f}"])
    return html_table(["convention", "score"], rows)
