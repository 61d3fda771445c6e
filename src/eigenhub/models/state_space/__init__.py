# SPDX-License-Identifier: Apache-2.0
"""What S5 and S4D share: configuration, cache, padding, norms, blocks, heads, generation."""
