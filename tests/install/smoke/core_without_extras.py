# SPDX-License-Identifier: Apache-2.0
"""What is missing without an extra says so in one line that names the extra, with exit code 2 where it is a command."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


EIGENHUB = Path(sys.executable).parent / "eigenhub"
SCRIPTS = (
    ("dp", "fedsvd", "--dp"),
    ("quant", "fedsvd", "--task", "causal_lm", "--model", "any", "--load_in_4bit"),
    ("fid", "householder", "--eval_features", "inception"),
)
HINT = re.compile(r"pip install 'eigenhub\[([a-z,]+)\]'")


def refused(*command: str | Path) -> set[str]:
    """The extras that a refused command asks for."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = " ".join((done.stdout + done.stderr).replace("│", " ").split())
    found = HINT.search(said)
    assert done.returncode and found, f"{command}: exit code {done.returncode}\n{said}"
    return set(found[1].split(","))


def import_refused(action: Callable[[], object]) -> set[str]:
    """The extras that a failing import asks for."""
    try:
        action()
    except ImportError as error:
        found = HINT.search(str(error))
        assert found, f"no extra is named: {error}"
        return set(found[1].split(","))
    raise AssertionError(f"{action} works without an extra")


def digits() -> object:
    from eigenhub.embedded.digits import load_digits

    return load_digits()


def flower() -> object:
    import eigenhub.federated.flower

    return eigenhub.federated.flower


def privacy() -> object:
    from eigenhub.federated import DPConfig, PrivacyLedger

    return PrivacyLedger(DPConfig(epsilon=6.0, delta=1e-3))


def encoder() -> object:
    from eigenhub import load_sentence_transformer

    return load_sentence_transformer("nowhere")


def main() -> None:
    from eigenhub import METHODS, get_method
    from eigenhub.hub.resources import find

    for method in METHODS:
        assert "demo" in refused(EIGENHUB, "demo", method.slug), method.slug
        assert refused(EIGENHUB, "space", method.slug) == {"spaces"}
    assert import_refused(digits) == {"demo"}
    assert import_refused(flower) == {"flower"}
    assert import_refused(encoder) == {"search"}
    for extra, slug, *flags in SCRIPTS:
        assert refused(sys.executable, find(get_method(slug).script_path), *flags) == {extra}, extra
    print("every missing extra is named")


if __name__ == "__main__":
    main()
