# SPDX-License-Identifier: Apache-2.0
"""What each method can do, measured: `python -m tests.capabilities` runs the probes and writes the table."""
