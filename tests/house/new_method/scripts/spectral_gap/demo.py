# SPDX-License-Identifier: Apache-2.0
"""The gap of a matrix that turns from full rank to rank one."""

import argparse


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    import torch

    from eigenhub.metrics.spectral_gap import spectral_gap

    for second in (4.0, 1.0, 0.0):
        print(f"diag(4, {second:g}): {spectral_gap(torch.diag(torch.tensor([4.0, second]))):.2f}")


if __name__ == "__main__":
    main()
