"""Pages made by one process: it imports what every page needs once, and forks a process for each page.

    python -m kdnb.server run FOLDER ...      as `python -m kdnb.notebooks run ...`, by the server of this folder

Half of what a page costs are imports.  `run` itself imports nothing: it hands over its arguments, environment and
outputs, waits, and ends with the page's exit code.  A page whose `run` has ended, for whatever reason, is stopped.
Where no server answers, `run` makes the page by itself.
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
from pathlib import Path

#: The socket in the server's folder.
SOCKET = "pages"
#: What executes a page, and what pages themselves import.
NEEDED = ("papermill", "ipykernel.kernelapp", "kdnb.listing", "kdnb.plots", "kdnb.tables", "kdnb.exhibits.show")
#: Drawing for a notebook, as a kernel says it before matplotlib is imported.
BACKEND = "module://matplotlib_inline.backend_inline"


# -- the server ------------------------------------------------------------------------------------------


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a server in a new folder; it ends when its standard input is closed, at the latest with this process.

    It can be asked at once: who asks while it still imports waits.  The keyboard's interrupts do not reach it.
    """
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen(64)
        command = [sys.executable, "-m", "kdnb.server", "serve", str(folder), str(listening.fileno())]
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONUTF8": "1"},
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )


def serve(folder: Path, number: int) -> None:
    """Answer on the socket that was handed down under this number, until standard input ends."""
    del sys.path[0]  # the folder that `python -m` was called in: a page's modules are not there
    try:
        with socket.socket(fileno=number) as listening:
            _import_what_pages_need()
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # pages that have ended are not waited for
            while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
                _answer(listening)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import_what_pages_need() -> None:
    """Kernels, pages, and the records and the code that are there: children have all of it."""
    os.environ.setdefault("MPLBACKEND", BACKEND)
    for name in NEEDED:
        importlib.import_module(name)
    from kdnb import notebooks

    notebooks.prepare()
    gc.collect()
    gc.freeze()  # so that children share what is there


def _answer(listening: socket.socket) -> None:
    from kdnb.study.store import Store

    connection, _ = listening.accept()
    with contextlib.suppress(OSError):
        Store.open()  # records that came since are read here, once for all
    if os.fork() == 0:
        listening.close()
        _be_a_page(connection)
    connection.close()


def _be_a_page(connection: socket.socket) -> None:
    """The forked process: make one page, and tell how that ended.  Never returns."""
    code = 1
    try:
        code = _made(connection)
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


def _made(connection: socket.socket) -> int:
    from kdnb import notebooks
    from kdnb.kernels import Waiting

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
    kernel = Waiting.fork()
    threading.Thread(target=_stop_at_the_end_of, args=[connection], daemon=True).start()
    try:
        return notebooks.main(request["arguments"], kernel)
    finally:
        kernel.kill()


def _stop_at_the_end_of(connection: socket.socket) -> None:
    connection.recv(1)  # nothing more is sent: this returns when the other side has ended
    os.kill(os.getpid(), signal.SIGTERM)


# -- who asks --------------------------------------------------------------------------------------------


def run(folder: Path, arguments: list[str]) -> int:
    """Have one page made; its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    request = json.dumps({"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(folder / SOCKET))
        except OSError:
            os.execv(sys.executable, [sys.executable, "-m", "kdnb.notebooks", *arguments])
        try:
            socket.send_fds(connection, [b"\0"], [1, 2])
            connection.sendall(request + b"\n")
            return int(connection.recv(16) or 1)
        except KeyboardInterrupt:
            return 130


def main(arguments: list[str]) -> int:
    """`run`, and `serve`, which `start` calls."""
    if len(arguments) > 2 and arguments[0] == "run":
        return run(Path(arguments[1]), arguments[2:])
    if len(arguments) == 3 and arguments[0] == "serve":
        serve(Path(arguments[1]), int(arguments[2]))
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
