# SPDX-License-Identifier: Apache-2.0
"""Imported by Python itself at the start of each process that `tests.support.processes` launches, and by its children.

`TEST_BLOCKED_PACKAGES` names packages that are to look uninstalled; `TEST_OUTSIDE_LOG` names a file to which every
attempt to leave the loopback interface is written before it is refused.
"""

import os
import sys


LOCAL = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")


def block(packages: list[str]) -> None:
    # None makes `import` raise ModuleNotFoundError and `importlib.util.find_spec` answer None
    sys.modules.update(dict.fromkeys(packages, None))  # type: ignore[arg-type]


def guard(log: str) -> None:
    own = {"", "None", os.uname().nodename}

    def refuse_outside(event: str, arguments: tuple) -> None:
        if event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host = arguments[0]
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        else:
            return
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name in own or name.startswith(LOCAL):
            return
        with open(log, "a") as file:
            file.write(f"{event} {name}\n")
        raise OSError(f"{event} to {name} refused: this test must not leave the loopback interface")

    sys.addaudithook(refuse_outside)


block([name for name in os.environ.get("TEST_BLOCKED_PACKAGES", "").split(",") if name])
if "TEST_OUTSIDE_LOG" in os.environ:
    guard(os.environ["TEST_OUTSIDE_LOG"])
