"""Kernels that begin at once: processes forked beforehand from one that has imported what a notebook needs.

    kernel = Waiting.fork()     while this process has one thread and no event loop
    papermill.execute_notebook(..., kernel_manager_class=kernel.manager())

A kernel that is forked has a namespace, a folder and an environment of its own, as one that is started; what it
does not have to do is import matplotlib, pandas and the rest once more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo
    from jupyter_client.manager import KernelManager

#: The module that Jupyter starts as a kernel of Python; behind it stand the kernel's own arguments.
LAUNCHER = "ipykernel_launcher"


class Waiting:
    """A process that waits to hear which kernel it is to be.  Once it has, Jupyter deals with it as with a `Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    @classmethod
    def fork(cls) -> Waiting:
        """Fork it from this process as it is now."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _wait_to_be_told(theirs)
        theirs.close()
        return cls(pid, ours)

    def begin(self, command: list[str], cwd: str, env: dict[str, str]) -> None:
        """Let it be the kernel that this command would start, in this folder, with this environment."""
        arguments = [*command[command.index(LAUNCHER) + 1 :], f"--IPKernelApp.parent_handle={os.getpid()}"]
        self._told.sendall(json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode())
        self._told.close()

    def manager(self) -> type[KernelManager]:
        """The class of managers, as papermill asks for it, whose kernel is this process."""
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_client.provisioning import LocalProvisioner

        waiting = self

        class Forked(LocalProvisioner):
            """Where the usual one starts a process, this one has it."""

            async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
                waiting.begin(cmd, kwargs.get("cwd") or os.getcwd(), kwargs["env"])
                self.process, self.pid = cast(Any, waiting), waiting.pid  # what is asked of it stands below
                return self.connection_info

        class Manager(AsyncKernelManager):
            """The usual one but for where its kernel comes from."""

            def __init__(self, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                self.provisioner = Forked(kernel_id=str(waiting.pid), kernel_spec=self.kernel_spec, parent=self)

        return Manager

    # -- what Jupyter asks of a process ------------------------------------------------------------------

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._ended(os.WNOHANG)

    def wait(self) -> int | None:
        """Its exit code, when it has ended."""
        return self._ended(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def _wait_to_be_told(told: socket.socket) -> None:
    """The forked process: become the kernel that is asked for, or end where none is.  Never returns."""
    code = 1
    try:
        with told.makefile("rb") as stream:
            asked = stream.read()
        told.close()
        if asked:
            _be(**json.loads(asked))
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:  # what the forking process would do at its own end is not this one's to do
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _be(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [LAUNCHER, *arguments]
    IPKernelApp.launch_instance(arguments)
