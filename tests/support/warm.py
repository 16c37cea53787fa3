"""`spheremap` without the seconds that its imports take: a fork of a process that has made them.

The tests' workflows start hundreds of commands. A stand-in for `spheremap`, first on their PATH, hands what
it was started with to a server of this test process, which forks, and waits for the exit code. A command
whose stand-in is gone ends at once, as if it had been killed with it.
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

PRELOADED = ("h5py", "matplotlib.pyplot", "pandas", "scipy.stats", "timm", "torchvision")

_STAND_IN = """\
#!{python} -IS
import json, os, socket, sys

server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"."], [0, 1, 2])
started = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
server.sendall(json.dumps(started).encode() + b"\\n")
sys.exit(int(server.makefile().readline() or 137))
"""


@functools.cache
def folder() -> Path:
    """Where the stand-in lies; starts the server on the first call, for as long as this process lives."""
    made = tempfile.TemporaryDirectory(prefix="spheremap-")
    atexit.register(made.cleanup)
    address = str(Path(made.name, "socket"))
    stand_in = Path(made.name, "bin", "spheremap")
    stand_in.parent.mkdir()
    stand_in.write_text(_STAND_IN.format(python=sys.executable, address=address))
    stand_in.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return stand_in.parent


def _serve(address: str) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    forks = multiprocessing.get_context("fork")
    while True:
        connection, _ = listener.accept()
        multiprocessing.active_children()  # reaps those that have ended
        forks.Process(target=_run, args=(connection,)).start()
        connection.close()


def _end_with_parent() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock a fork would inherit
    os._exit(0)


def _run(connection: socket.socket) -> None:
    """In the fork: become the command, run it and send its exit code."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    started = json.loads(connection.makefile().readline())
    threading.Thread(target=_end_with_stand_in, args=(connection,), daemon=True).start()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()
    os.chdir(started["folder"])
    os.environ.clear()
    os.environ |= started["environment"]
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["spheremap", *started["arguments"]]
    try:
        code = importlib.import_module("spheremap.cli").main(started["arguments"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    connection.sendall(f"{code or 0}\n".encode())


def _end_with_stand_in(connection: socket.socket) -> None:
    connection.recv(1)
    os._exit(137)


if __name__ == "__main__":
    _serve(sys.argv[1])
