# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: interleaved timing, and the report."""
