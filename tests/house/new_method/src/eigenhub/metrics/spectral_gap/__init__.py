# SPDX-License-Identifier: Apache-2.0
"""How far the largest singular value stands out."""

from eigenhub.metrics.spectral_gap.gap import spectral_gap


__all__ = ["spectral_gap"]
