# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in one sitting: `python benchmarks --help`."""

import sys

from support.sitting import main


if __name__ == "__main__":
    sys.exit(main())
