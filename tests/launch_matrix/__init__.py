# SPDX-License-Identifier: Apache-2.0
"""Every training program under every way to launch it, really run on CPUs; see `docs/training.md`."""
