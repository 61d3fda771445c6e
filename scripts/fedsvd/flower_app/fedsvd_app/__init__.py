# SPDX-License-Identifier: Apache-2.0
"""FedSVD as a Flower app: `flwr run .` in the folder above."""
