"""The kernel provisioner: jupyter_client asks it for a kernel, it has the warm parent fork a walled one."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Int

from autograder.runtime.client import Walled, default_policy
from autograder.runtime.hidden import named
from autograder.runtime.kernel import CHANNELS

POLL_SECONDS = 0.01
WATCH_SECONDS = 0.1


class BoundedClient(AsyncKernelClient):
    """A client that a flood of output cannot make grow: of long messages and of many, it drops the kernel.

    Of a message in many parts it would not; that is what `WalledProvisioner` looks after.
    """

    longest_message = 8 << 20  # bytes
    waiting_messages = 100

    def start_channels(
        self,
        shell: bool = True,
        iopub: bool = True,
        stdin: bool = True,
        hb: bool = False,
        control: bool = True,
    ) -> None:
        """As the parent's, without a heartbeat: nobody answers it, and its end takes up to a second."""
        super().start_channels(shell, iopub, stdin, hb, control)

    def _create_connected_socket(self, channel: str, identity: bytes | None = None) -> zmq.Socket[Any]:
        limited = super()._create_connected_socket(channel, identity)
        # Too late for a connection made already, which on an ipc address is none before the first poll.
        limited.setsockopt(zmq.MAXMSGSIZE, self.longest_message)
        limited.setsockopt(zmq.RCVHWM, self.waiting_messages)
        limited.linger = 0  # nobody waits until a dead kernel has read its messages
        return limited


class WalledProvisioner(KernelProvisionerBase):  # type: ignore[misc]
    """Starts a kernel in the sandbox; the traits can be set in the kernelspec's provisioner `config`."""

    memory = Int(4 << 30, help="Bytes of memory for all processes of a kernel.")
    scratch = Int(512 << 20, help="Bytes that it can write.")
    processes = Int(128, help="Processes and threads.")
    cpu_seconds = Int(900, help="Seconds of CPU for a process.")
    growth = Int(1 << 30, help="Bytes by which its messages may make the grader's process grow.")

    walled: Walled | None = None
    judge_line: socket.socket | None = None  # the grader's end of the line to the judge's server in there
    folder = ""

    @property
    def has_process(self) -> bool:
        """Whether a kernel has been started and not cleared away."""
        return self.walled is not None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose the sockets' place: a folder of this kernel's own, by an absolute short path."""
        self.folder = tempfile.mkdtemp(prefix="k-", dir="/tmp")
        manager: Any = self.parent
        manager.transport, manager.ip = "ipc", f"{self.folder}/s"
        for port, channel in enumerate((*CHANNELS, "hb"), 1):
            setattr(manager, f"{channel}_port", port)
        manager.client_class = f"{__name__}.{BoundedClient.__name__}"
        self.connection_info = manager.get_connection_info()
        return await super().pre_launch(cmd=[], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start it with listening sockets, so that a client may connect before it is up."""
        listeners = [_listen(f"{self.folder}/s-{port}") for port in range(1, len(CHANNELS) + 1)]
        self.judge_line, inside = socket.socketpair()
        hidden = named(kwargs.get("extra_arguments") or ())
        limits = {name: getattr(self, name) for name in ("memory", "scratch", "processes", "cpu_seconds")}
        fds = [*(listener.fileno() for listener in listeners), inside.fileno()]
        content = Path(kwargs.get("cwd") or ".") if kwargs.get("cwd") else None
        key = bytes(self.connection_info["key"]).decode()  # type: ignore[arg-type]
        try:
            self.walled = await asyncio.to_thread(
                Walled, "kernel", default_policy(hidden=hidden, **limits), fds, key, content
            )
        finally:
            for used in (*listeners, inside):
                used.close()
        threading.Thread(target=self._watch, args=(self.walled,), daemon=True).start()
        return self.connection_info

    def _watch(self, walled: Walled) -> None:
        """End a kernel that makes this process grow: ZMQ takes a message of any number of parts."""
        own = psutil.Process()
        most = own.memory_info().rss + self.growth
        while walled.exit_code is None:
            if own.memory_info().rss > most:
                walled.end()
            time.sleep(WATCH_SECONDS)

    async def poll(self) -> int | None:
        """The exit code, or None while it lives."""
        return self.walled.poll() if self.walled else 0

    async def wait(self) -> int | None:
        """Wait for its end."""
        while self.walled and self.walled.poll() is None:
            await asyncio.sleep(POLL_SECONDS)
        code = self.walled.exit_code if self.walled else 0
        await self._forget()
        return code

    async def send_signal(self, signum: int) -> None:
        """Interrupt it, or end it: there is no mild way that student code could not refuse."""
        if self.walled is None:
            return
        if signum == signal.SIGINT:
            self.walled.signal(signum)
        else:
            await asyncio.to_thread(self.walled.kill)

    async def kill(self, restart: bool = False) -> None:
        """End it and everything that it started."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """As `kill`."""
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        """Remove what the kernel had outside."""
        await self.kill()
        await self._forget()
        shutil.rmtree(self.folder, ignore_errors=True)

    def end_line(self) -> None:
        """Let who holds the judge's line see that nobody will answer any more."""
        if self.judge_line:
            with contextlib.suppress(OSError):
                self.judge_line.shutdown(socket.SHUT_RDWR)

    async def _forget(self) -> None:
        self.walled = None
        if self.judge_line:
            self.judge_line.close()


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(path)
    listener.listen(os.cpu_count() or 1)
    return listener
