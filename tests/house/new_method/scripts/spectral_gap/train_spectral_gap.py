# SPDX-License-Identifier: Apache-2.0
"""Watch the gap of a linear map while it learns a map of rank one.

accelerate launch scripts/spectral_gap/train_spectral_gap.py --max_steps 100
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max_steps", type=int, default=100, help="default: %(default)s")
    args = parser.parse_args()
    import torch
    from accelerate import Accelerator

    from eigenhub.metrics.spectral_gap import spectral_gap

    accelerator = Accelerator()
    model = torch.nn.Linear(8, 8, bias=False)
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    for _ in range(args.max_steps):
        inputs = torch.randn(32, 8, device=accelerator.device)
        loss = (model(inputs) - inputs.sum(-1, keepdim=True)).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.print(f"gap {spectral_gap(accelerator.unwrap_model(model).weight):.3f}")


if __name__ == "__main__":
    main()
