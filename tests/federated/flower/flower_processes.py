# SPDX-License-Identifier: Apache-2.0
"""Flower's own programs on the loopback interface, in a home of their own, all gone afterwards."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.house.sources import ROOT
from tests.support.processes import Finished, kill_tree, run


APP = ROOT / "scripts" / "fedsvd" / "flower_app"
CONNECTION = "here"


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def flower_environment(home: Path, port: int) -> dict[str, str]:
    """Environment of every program: offline, silent towards the makers of Flower and Ray, with one known SuperLink."""
    home.mkdir(parents=True, exist_ok=True)
    connection = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
    (home / "config.toml").write_text(f'{connection}address = "127.0.0.1:{port}"\ninsecure = true\n')
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def program(name: str, *arguments: str, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A program of Flower's that runs until the end of the block, with all that it has started."""
    with log.open("w") as output:
        command = [str(Path(sys.executable).parent / name), *arguments]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            kill_tree(process)
            process.wait()


def wait_for(port: int, process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    """Until somebody listens on the port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"nobody listens on port {port}\n{log.read_text()}")


@contextmanager
def simulated(folder: Path) -> Iterator[dict[str, str]]:
    """A SuperLink that simulates its nodes on Ray; gives the environment for [`flwr_run`]."""
    (port,) = free_ports(1)
    environment, log = flower_environment(folder / "home", port), folder / "superlink.log"
    options = ("--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port))
    with program("flower-superlink", *options, environment=environment, log=log) as process:
        wait_for(port, process, log)
        try:
            yield environment
        finally:
            stop_those_of(folder / "home")


@contextmanager
def deployed(folder: Path, num_nodes: int) -> Iterator[dict[str, str]]:
    """A SuperLink and SuperNodes; gives the environment for [`flwr_run`]."""
    port, *ports = free_ports(1 + num_nodes)
    environment, log = flower_environment(folder / "home", port), folder / "superlink.log"
    with ExitStack() as stack:
        stack.callback(stop_those_of, folder / "home")
        link = ("--insecure", "--host", "127.0.0.1", "--port", str(port))
        process = stack.enter_context(program("flower-superlink", *link, environment=environment, log=log))
        wait_for(port, process, log)
        for index, own in enumerate(ports):
            node = ("--insecure", "--superlink", f"127.0.0.1:{port}", "--host", "127.0.0.1", "--port", str(own))
            config = ("--node-config", f"partition-id={index} num-partitions={num_nodes}")
            log = folder / f"supernode{index}.log"
            stack.enter_context(program("flower-supernode", *node, *config, environment=environment, log=log))
        yield environment


def flwr_run(folder: Path, environment: dict[str, str], *options: str, timeout: float = 420) -> Finished:
    """`flwr run` on a copy of the app, until the run has ended."""
    app = folder / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    command = [str(Path(sys.executable).parent / "flwr"), "run", str(app), CONNECTION, "--stream", *options]
    return run(command, environment, folder, timeout=timeout)


def stop_those_of(home: Path) -> None:
    """Kill what has left the tree of its parent, told by the home in its environment."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLWR_HOME") == str(home):
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
