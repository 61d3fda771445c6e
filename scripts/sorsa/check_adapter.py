# SPDX-License-Identifier: Apache-2.0
"""Load a base model and an adapter in this (fresh) process and write the logits for stored inputs.

    python scripts/sorsa/check_adapter.py BASE ADAPTER inputs.safetensors logits.safetensors [--without_eigenhub]

With `--without_eigenhub` the package cannot be imported, so only what stock PEFT understands loads.
"""

import argparse
import sys
from importlib import import_module


class Refuse:
    """An import hook that makes one package look uninstalled."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path=None, target=None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r} (refused)", name=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "adapter", "inputs", "logits"):
        parser.add_argument(name)
    parser.add_argument("--without_eigenhub", action="store_true")
    args = parser.parse_args()
    if args.without_eigenhub:
        sys.meta_path.insert(0, Refuse("eigenhub"))
    else:
        import_module("eigenhub.auto")  # registers SORSA with PEFT

    import torch
    from peft import PeftModel
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(args.base)
    model = PeftModel.from_pretrained(model, args.adapter).eval()
    with torch.no_grad():
        save_file({"logits": model(**load_file(args.inputs)).logits}, args.logits)


if __name__ == "__main__":
    main()
