# SPDX-License-Identifier: Apache-2.0
"""One module per method of the table of methods: its probes, under the name `PROBES`."""
