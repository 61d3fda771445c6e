# SPDX-License-Identifier: Apache-2.0
"""The package as its users get it: built, looked into, installed into empty environments and used there.

`python -m tests.install --help`, or `make test-install`. Nothing here is collected by pytest; see `docs/install.md`.
"""
