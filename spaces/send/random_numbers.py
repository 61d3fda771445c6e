# SPDX-License-Identifier: Apache-2.0
"""torch's global generator is one for the threads of all visitors: whoever seeds it and draws from it holds this meanwhile."""

import threading


DRAWING = threading.RLock()
