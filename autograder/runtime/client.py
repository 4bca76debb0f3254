"""The grader's side of the warm parent: starts it once a machine, and asks it for walled processes."""

import atexit
import contextlib
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import autograder
from autograder import Refusal
from autograder.runtime.sandbox import ENVIRONMENT, KEPT_ENVIRONMENT, PROTECTIONS, Policy
from autograder.runtime.zygote import MESSAGE

SOCKET_VARIABLE = "AUTOGRADER_ZYGOTE"
WEAKER_VARIABLE = "AUTOGRADER_WEAKER_SANDBOX"
START_SECONDS = 300  # on a machine that has much else to do


def ensure_zygote() -> str:
    """The path of the warm parent's socket; starts one where neither this process nor its parent has.

    Processes that this one starts find the same one by the environment; it ends with this process.
    """
    path = os.environ.get(SOCKET_VARIABLE, "")
    return path if path and Path(path).exists() else _start_zygote()


def _start_zygote() -> str:
    if sys.platform != "linux":
        raise Refusal(
            "Student code is run only on Linux, walled in: run this in a container, docs/guide.md step 1."
        )
    _make_tiny_model()
    folder = tempfile.mkdtemp(prefix="zygote-")
    path = f"{folder}/socket"
    # No secret of the grader's environment: every student's process inherits what this one has.
    kept = {name: os.environ[name] for name in ("HOME", *KEPT_ENVIRONMENT) if name in os.environ}
    packages = str(Path(autograder.__file__).parents[1])
    # Opened here, so that a request may wait in it while the parent is still importing.
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "autograder.runtime.zygote", str(listener.fileno())],
            env=ENVIRONMENT
            | kept
            | {"TOOLKIT_CACHE": str(_cache()), "PYTHONPATH": packages, "TMPDIR": folder},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # a Ctrl-C is for the grader, which ends it by its lifeline
        )
    atexit.register(_stop_zygote, process, folder, os.getpid())
    os.environ[SOCKET_VARIABLE] = path
    return path


def _make_tiny_model() -> None:
    """The lessons' toy model, made by a process of its own where it is missing: a kernel may only read it."""
    weights = _cache() / "tiny" / "model.safetensors"
    if weights.is_file() and weights.stat().st_mode & stat.S_IROTH:
        return
    make = [sys.executable, "-c", "from toolkit.embedded import tiny; tiny()"]
    environment = os.environ | {"TOOLKIT_CACHE": str(_cache())}
    if subprocess.run(make, env=environment, capture_output=True, check=False).returncode:
        print(
            f"The lessons' toy model could not be made in {_cache()}, and cells that load it will fail: "
            "free some disk, or point TOOLKIT_CACHE to a folder that can be written.",
            file=sys.stderr,
        )


def _stop_zygote(process: subprocess.Popen[bytes], folder: str, owner: int) -> None:
    if os.getpid() == owner:
        os.environ.pop(SOCKET_VARIABLE, None)
        process.terminate()  # its lifeline ends it too, but not while it is still importing
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def waive(protections: Sequence[str]) -> list[str]:
    """Let this process's sandboxes do without these protections; gives what is lost with each."""
    os.environ[WEAKER_VARIABLE] = ",".join(protections)
    return [PROTECTIONS[name] for name in default_policy().waived]


def default_policy(**limits: Any) -> Policy:
    """Limits as given, and the protections that the instructor has waived in so many words."""
    waived = tuple(filter(None, os.environ.get(WEAKER_VARIABLE, "").split(",")))
    unknown = set(waived) - PROTECTIONS.keys()
    if unknown:
        raise Refusal(f"No protection is called {', '.join(unknown)}; there are: {', '.join(PROTECTIONS)}.")
    models = (str(_cache()),) if _cache().is_dir() else ()
    return Policy(**{"waived": waived, "read_only": models, **limits})


def _connect() -> socket.socket:
    """A connection to the warm parent; to a new one where the old is dead (out of memory, say)."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(ensure_zygote())
    except ConnectionRefusedError:
        connection.connect(_start_zygote())
    return connection


def _cache() -> Path:
    """Where the toolkit keeps its models on this machine."""
    return Path(os.environ.get("TOOLKIT_CACHE") or Path.home() / ".cache" / "aula-peft")


class Walled:
    """A walled process; it dies when this object is closed, or the process that holds it."""

    def __init__(
        self,
        role: str,
        policy: Policy,
        fds: Sequence[int] = (),
        argument: Any = None,
        content: Path | None = None,
    ) -> None:
        """Start it, with open files and an argument that its role understands; wait until it is walled in.

        `content`: a folder of which its home gets a copy. Raises Refusal where a protection is missing.
        """
        request = {
            "role": role,
            "policy": asdict(policy),
            "argument": argument,
            "content": content and str(content),
        }
        self.connection = _connect()
        self.exit_code: int | None = None
        socket.send_fds(self.connection, [json.dumps(request).encode()], list(fds))
        self.connection.settimeout(START_SECONDS)
        news = self._news()
        if "ready" not in news:
            self.close()
            reason = news.get("error", "its warm parent ended, perhaps with a reason above")
            raise Refusal(
                f"The sandbox cannot be built here: {reason}. Run `autograder doctor` to see what is missing."
            )

    def _news(self) -> Mapping[str, Any]:
        try:
            text = self.connection.recv(MESSAGE)
        except (ConnectionError, TimeoutError):  # the warm parent is dead, or as good as dead
            text = b""
        news: Mapping[str, Any] = json.loads(text) if text else {"ended": -1}
        self.exit_code = news.get("ended", self.exit_code)
        return news

    def poll(self) -> int | None:
        """Its exit code (a signal's number where that ended it), or None while it lives."""
        while self.exit_code is None and select.select([self.connection], [], [], 0)[0]:
            self._news()
        return self.exit_code

    def wait(self, seconds: float) -> int | None:
        """As `poll`, after at most `seconds`."""
        if self.exit_code is None:
            select.select([self.connection], [], [], seconds)
        return self.poll()

    def signal(self, number: int) -> None:
        """Send a signal to process 1 in there."""
        if self.poll() is None:
            with contextlib.suppress(OSError):  # its end is under way
                self.connection.send(json.dumps({"signal": number}).encode())

    def kill(self) -> None:
        """End it and everything that it started; comes back when all are dead."""
        self.end()
        while self.exit_code is None:
            self._news()
        self.connection.close()

    def end(self) -> None:
        """As `kill`, without waiting; any thread may call it."""
        with contextlib.suppress(OSError):  # closed already
            self.connection.shutdown(socket.SHUT_WR)

    close = kill
