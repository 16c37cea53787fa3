"""Commands without the seconds that their imports take: forks of a process that has made them.

The tests' workflows start hundreds of commands. A stand-in for each, first on their PATH, hands what it was
started with to a server of this test process, which forks, and waits for the exit code. A command whose
stand-in is gone ends at once, as if it had been killed with it.
"""

import atexit
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

COMMANDS = {"dvc": "dvc.cli", "snakemake": "snakemake.cli", "spheremap": "spheremap.cli"}
# what dvc and snakemake import; not snakemake.workflow, which keeps the folder that it was loaded in
PARTS = (
    "dvc.cli.parser", "dvc.repo",
    "snakemake.scheduling.job_scheduler", "snakemake.persistence", "snakemake.parser", "snakemake.report",
)  # fmt: skip
# what spheremap imports; not itself, which may be another copy
LIBRARIES = ("h5py", "matplotlib.pyplot", "pandas", "scipy.stats", "timm", "torchvision")

_FORKS = multiprocessing.get_context("fork")
_STAND_IN = """\
#!{python} -IS
import json, os, socket, sys

server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"."], [0, 1, 2])
started = {{"words": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
server.sendall(json.dumps(started).encode() + b"\\n")
sys.exit(int(server.makefile().readline() or 137))
"""


@functools.cache
def folder() -> Path:
    """Where the stand-ins lie; starts the server on the first call, for as long as this process lives."""
    made = tempfile.TemporaryDirectory(prefix="spheremap-")
    atexit.register(made.cleanup)
    address = str(Path(made.name, "socket"))
    stand_ins = Path(made.name, "bin")
    stand_ins.mkdir()
    for name in COMMANDS:
        (stand_ins / name).write_text(_STAND_IN.format(python=sys.executable, address=address))
        (stand_ins / name).chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return stand_ins


def _serve(address: str) -> None:
    for name in (*PARTS, *LIBRARIES):
        importlib.import_module(name)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        multiprocessing.active_children()  # reaps those that have ended
        _FORKS.Process(target=_answer, args=(connection,)).start()
        connection.close()


def _end_with_parent() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock a fork would inherit
    os._exit(0)


def _answer(connection: socket.socket) -> None:
    """Run the command in a fork, and send its exit code when it has let go of all it held."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    started = json.loads(connection.makefile().readline())
    command = _FORKS.Process(target=_become, args=(connection, streams), kwargs=started)
    command.start()
    command.join()
    with contextlib.suppress(BrokenPipeError):  # the stand-in was killed
        connection.sendall(f"{command.exitcode}\n".encode())


def _become(
    connection: socket.socket, streams: list[int], words: list[str], folder: str, environment: dict[str, str]
) -> None:
    threading.Thread(target=_end_with_stand_in, args=(connection,), daemon=True).start()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = words
    sys.exit(importlib.import_module(COMMANDS[Path(words[0]).name]).main())


def _end_with_stand_in(connection: socket.socket) -> None:
    connection.recv(1)
    os._exit(137)


if __name__ == "__main__":
    _serve(sys.argv[1])
