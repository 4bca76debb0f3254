"""The warm parent: imports once, then forks a walled process for each connection.

One connection is one process: a request comes with its file descriptors, then signals; news of its start and
end go back; and when the connection ends, for whatever reason, the process and all that it started die.
A single thread, no event loop, no ZMQ context: nothing that a fork could break.
"""

import contextlib
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.runtime import linux, sandbox, seccomp, warm
from autograder.runtime.cgroup import Cgroup, move_into_scope

MESSAGE = 64 << 10
DESCRIPTORS = 8
# What a forked process can be asked to become: a function, called with the descriptors and the argument.
ROLES = {
    "kernel": "autograder.runtime.kernel:run",
    "judge": "autograder.judge.process:run",
    "probe": "autograder.runtime.doctor:probe",
}


@dataclass
class Child:
    """A forked process and what is to be cleared away after it."""

    connection: socket.socket
    guard: int  # in the grader's namespaces; its child is process 1 of the sandbox
    watch: int  # its pidfd
    news: int  # read end of the pipe on which it tells of its start
    stage: Path
    cgroup: Cgroup
    inner: int = 0
    doomed: bool = False
    said: bytes = field(default=b"")


class Zygote:
    """Serves connections on `listener` until `lifeline` closes."""

    def __init__(self, listener: socket.socket, lifeline: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.number = 0
        self._watch(listener, lambda: self._accept(listener))
        self._watch(lifeline, lambda: os._exit(0))  # at once: nothing here is worth an orderly end

    def _watch(self, source: Any, action: Callable[[], None]) -> None:
        self.selector.register(source, selectors.EVENT_READ, action)

    def serve(self) -> None:
        """Loop until the lifeline's other end closes."""
        while True:
            for key, _ in self.selector.select():
                if key.fd in self.selector.get_map():  # an earlier action may have closed it
                    key.data()

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", peer)[1] != os.geteuid():
            connection.close()
            return
        self._watch(connection, lambda: self._start(connection))

    def _start(self, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        text, fds, *_ = socket.recv_fds(connection, MESSAGE, DESCRIPTORS)
        try:
            if text:
                self._fork(connection, json.loads(text), fds)
                return
        except OSError as error:
            _tell(connection, error=f"{error.strerror} ({error.filename})")
        finally:
            for fd in fds:
                os.close(fd)
        connection.close()

    def _fork(self, connection: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        warm.check_threads()
        policy = sandbox.Policy(**request["policy"])
        self.number += 1
        cgroup = Cgroup(())
        if "cgroup" not in policy.waived:
            cgroup = Cgroup.make(self.number, policy.memory, policy.processes, policy.cpus)
        stage = Path(tempfile.mkdtemp(prefix="stage-"))
        news, tell = os.pipe()
        guard = os.fork()
        if not guard:
            _be_guard(policy, request, fds, cgroup, stage, tell)
        os.close(tell)
        child = Child(connection, guard, os.pidfd_open(guard), news, stage, cgroup)
        self._watch(news, lambda: self._news(child))
        self._watch(child.watch, lambda: self._ended(child))
        self._watch(connection, lambda: self._signal(child))

    def _news(self, child: Child) -> None:
        """Lines of JSON: the guard's about process 1, its own about being ready or why not."""
        said = os.read(child.news, MESSAGE)
        if not said:
            self.selector.unregister(child.news)
            os.close(child.news)
            child.news = -1
        *lines, child.said = (child.said + said).split(b"\n")
        for line in map(json.loads, lines):
            child.inner = line.pop("inner", child.inner)
            if child.doomed:
                _kill(child)
            if line:
                _tell(child.connection, **line)

    def _signal(self, child: Child) -> None:
        text = b""
        with contextlib.suppress(OSError):
            text = child.connection.recv(MESSAGE)
        if not text:
            self.selector.unregister(child.connection)
            _kill(child)
        elif child.inner:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.inner, json.loads(text)["signal"])

    def _ended(self, child: Child) -> None:
        if child.news >= 0:
            self._news(child)
        self.selector.unregister(child.watch)
        os.close(child.watch)
        _, status = os.waitpid(child.guard, 0)
        if child.news >= 0:
            self.selector.unregister(child.news)
            os.close(child.news)
        if child.connection.fileno() in self.selector.get_map():
            self.selector.unregister(child.connection)
        _tell(child.connection, ended=os.waitstatus_to_exitcode(status))
        child.connection.close()
        child.cgroup.remove()
        shutil.rmtree(child.stage, ignore_errors=True)


def _tell(connection: socket.socket, **news: object) -> None:
    with contextlib.suppress(OSError):
        connection.send(json.dumps(news).encode())


def _kill(child: Child) -> None:
    """Kill process 1, and with it all of its namespace; the guard ends by itself."""
    child.doomed = True  # its number may still be on its way
    if child.inner:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.inner, signal.SIGKILL)


def _be_guard(
    policy: sandbox.Policy, request: dict[str, Any], fds: list[int], cgroup: Cgroup, stage: Path, tell: int
) -> None:
    """Hold the namespaces; the child of this process is what was asked for. Never returns."""
    status = 1
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        fds, tell = _keep_only(fds, tell)
        cgroup.enter()
        user = sandbox.host_user()
        sandbox.isolate(policy)
        inner = os.fork()
        if inner:
            os.write(tell, json.dumps({"inner": inner}).encode() + b"\n")
            os.close(tell)
            _, waited = os.waitpid(inner, 0)
            status = abs(os.waitstatus_to_exitcode(waited))
        else:
            content = Path(request["content"]) if request.get("content") else None
            sandbox.wall_in(policy, user, stage, content)
            if "namespaces" not in policy.waived:
                _stand_aside()
            os.write(tell, b'{"ready": true}\n')
            os.close(tell)
            _become(request["role"], fds, request.get("argument"))
            status = 0
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(tell, json.dumps({"error": f"{error.strerror} ({error.filename})"}).encode() + b"\n")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status & 255)


def _stand_aside() -> None:
    """Come back as the child of this process, which as process 1 takes all of its namespace with it.

    It is what the guard's death has to reach: student code could rid itself of its own death signal.
    """
    child = os.fork()
    if not child:
        return
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # the child, of the same user, may not write into it
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, lambda *_: os.kill(child, signal.SIGINT))
    while True:
        ended, status = os.wait()
        if ended == child:
            os._exit(abs(os.waitstatus_to_exitcode(status)))


def _keep_only(fds: list[int], tell: int) -> tuple[list[int], int]:
    """Close all but these and standard error; standard input and output become nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    wanted = [nothing, nothing, 2, *fds, tell]
    # Above all of them first, so that no target is overwritten before it is moved.
    moved = [os.dup2(fd, 100 + place, inheritable=False) for place, fd in enumerate(wanted)]
    for place, fd in enumerate(moved):
        os.dup2(fd, place, inheritable=place < 3)
    os.closerange(len(wanted), 100 + len(wanted))
    os.closerange(100 + len(wanted), os.sysconf("SC_OPEN_MAX"))
    return list(range(3, 3 + len(fds))), 3 + len(fds)


def _become(role: str, fds: list[int], argument: Any) -> None:
    module, _, function = ROLES[role].partition(":")
    kept = {name: os.environ[name] for name in sandbox.KEPT_ENVIRONMENT if name in os.environ}
    os.environ.clear()
    os.environ.update(sandbox.ENVIRONMENT | kept)
    tempfile.tempdir = None  # looked up before the fork: a folder that is not here
    sys.path[:] = [path for path in sys.path if os.path.isdir(path)]
    getattr(importlib.import_module(module), function)(tuple(fds), argument)


def main(listener: socket.socket) -> None:
    """Serve a listening socket until standard input closes."""
    move_into_scope()
    seccomp.preload()
    warm.warm_up()
    for role in (*ROLES.values(), "autograder.judge.server"):
        importlib.import_module(role.partition(":")[0])
    warm.check_threads()
    Zygote(listener, sys.stdin.fileno()).serve()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
