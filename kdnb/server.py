"""Jobs of a build done by a server: it imports what all jobs of its trade need once, and forks a process for each.

    python -m kdnb.server run FOLDER pages run ...        as `python -m kdnb.notebooks run ...`
    python -m kdnb.server run FOLDER training study ...   as `python -m kdnb study ...`

Half of what a page costs are imports, and a seventh of what a demo's training costs.  `run` itself imports nothing: it
hands over its arguments, environment and outputs, waits, and ends with the job's exit code.  Told to stop, it tells the
job and waits for its end; a job whose `run` is gone, for whatever reason, stops too.  Where no server answers, `run`
does the job by itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: The socket in the server's folder.
SOCKET = "jobs"
#: Drawing for a notebook, as a kernel says it before matplotlib is imported.
BACKEND = "module://matplotlib_inline.backend_inline"


@dataclass(frozen=True)
class Trade:
    """Jobs of one kind: the module that does one by itself, what all of them import, what is read once for all.

    `begin` is called in a job's own process before anything else, and gives what does it: arguments -> exit code.
    """

    module: str
    needed: tuple[str, ...]
    prepare: Callable[[], None]
    begin: Callable[[], Callable[[list[str]], int]]


# -- the server ------------------------------------------------------------------------------------------


def start(folder: Path, trade: str) -> subprocess.Popen[bytes]:
    """Start a server of a trade in a new folder.

    It ends when its standard input is closed, at the latest with this process.  It can be asked at once: who asks while
    it still imports waits.  The keyboard's interrupts do not reach it.
    """
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen(64)
        command = [sys.executable, "-m", "kdnb.server", "serve", str(folder), trade, str(listening.fileno())]
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONUTF8": "1"},
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )


def serve(folder: Path, trade: Trade, number: int) -> None:
    """Answer on the socket that was handed down under this number, until standard input ends."""
    del sys.path[0]  # the folder that `python -m` was called in: a job's modules are not there
    try:
        with socket.socket(fileno=number) as listening:
            _get_ready(trade)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # jobs that have ended are not waited for
            while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
                _answer(listening, trade)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _get_ready(trade: Trade) -> None:
    """Have here what all jobs need: children have all of it."""
    os.environ.setdefault("MPLBACKEND", BACKEND)
    for name in trade.needed:
        importlib.import_module(name)
    trade.prepare()
    gc.collect()
    gc.freeze()  # so that children share what is there


def _answer(listening: socket.socket, trade: Trade) -> None:
    from kdnb.study.store import Store

    connection, _ = listening.accept()
    with contextlib.suppress(OSError):
        Store.open()  # records that came since are read here, once for all
    if os.fork() == 0:
        listening.close()
        _be_a_job(connection, trade)
    connection.close()


def _be_a_job(connection: socket.socket, trade: Trade) -> None:
    """The forked process: do one job, and tell how that ended.  Never returns."""
    code = 1
    try:
        code = _done(connection, trade)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:  # what the server does at its end is not this process's to do
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who asked ends as soon as it has its answer
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(str(code).encode())
        finally:
            os._exit(code)


def _done(connection: socket.socket, trade: Trade) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, outputs, _, _ = socket.recv_fds(connection, 1, 2)
    for number, given in enumerate(outputs, 1):
        os.dup2(given, number)
        os.close(given)
    request = json.loads(connection.makefile("rb").readline())
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    do = trade.begin()  # while this process has one thread
    threading.Thread(target=_stop_at_the_end_of, args=[connection], daemon=True).start()
    return do(request["arguments"])


def _stop_at_the_end_of(connection: socket.socket) -> None:
    connection.recv(1)  # nothing more is sent: this returns when the other side has ended
    os.kill(os.getpid(), signal.SIGTERM)


# -- the trades ------------------------------------------------------------------------------------------


def _read_for_pages() -> None:
    """The code, the records and the cells that are there."""
    from kdnb import notebooks

    notebooks.prepare()


def _begin_page() -> Callable[[list[str]], int]:
    from kdnb import notebooks
    from kdnb.kernels import Waiting

    kernel = Waiting.fork()

    def make(arguments: list[str]) -> int:
        try:
            return notebooks.main(arguments, kernel)
        finally:
            kernel.kill()

    return make


def _read_for_training() -> None:
    """The images of the demo, and where the sources stand; no tensor is computed, which would start threads."""
    from kdnb import datasets
    from kdnb.study.environment import commit, source_digest

    datasets.load("digits")
    commit()
    source_digest()


def _begin_training() -> Callable[[list[str]], int]:
    from kdnb import cli

    def train(arguments: list[str]) -> int:
        sys.argv = ["kdnb", *arguments]
        cli.main()
        return 0

    return train


TRADES = {
    "pages": Trade(
        "kdnb.notebooks",
        # What executes a page, and what pages themselves import.
        ("papermill", "ipykernel.kernelapp", "kdnb.listing", "kdnb.plots", "kdnb.tables", "kdnb.exhibits.show"),
        _read_for_pages,
        _begin_page,
    ),
    "training": Trade(
        "kdnb",
        # Torch's optimisers import its compiler when they are made, whether anything is compiled or not.
        ("kdnb.cli", "kdnb.exhibits.wanted", "kdnb.study.workers", "torch._dynamo"),
        _read_for_training,
        _begin_training,
    ),
}


# -- who asks --------------------------------------------------------------------------------------------


def run(folder: Path, trade: Trade, arguments: list[str]) -> int:
    """Have one job done; its exit code."""
    request = json.dumps({"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(folder / SOCKET))
        except OSError:
            os.execv(sys.executable, [sys.executable, "-m", trade.module, *arguments])
        socket.send_fds(connection, [b"\0"], [1, 2])
        connection.sendall(request + b"\n")

        def stop(number: int, frame: object) -> None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)  # the job hears it, saves what it has, and answers
        return int(connection.recv(16) or 1)


def main(arguments: list[str]) -> int:
    """`run`, and `serve`, which `start` calls."""
    if len(arguments) > 3 and arguments[0] == "run" and arguments[2] in TRADES:
        return run(Path(arguments[1]), TRADES[arguments[2]], arguments[3:])
    if len(arguments) == 4 and arguments[0] == "serve":
        serve(Path(arguments[1]), TRADES[arguments[2]], int(arguments[3]))
        os._exit(0)  # libraries that are torn down with frozen objects would tell what they count as leaks
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
