# SPDX-License-Identifier: Apache-2.0
"""The gap from all singular values against the gap by two steps of a power method."""
