"""The grader's hold on the judge: has it run cells, and takes another where one hangs or dies."""

import json
import socket
from collections.abc import Collection
from typing import Any

from autograder.judge.items import MESSAGE, Verdict
from autograder.runtime.client import Walled, default_policy

LATE = Verdict(0, "O teste não terminou a tempo.", "the judge gave no verdict", lost=True)


class Judge:
    """A trusted process; one cell at a time."""

    def __init__(self, answers: Collection[str], told: dict[str, Any], seconds: float) -> None:
        """`answers`: the names that are the student's; `told` goes with each cell, which has `seconds`."""
        self.answers, self.told, self.seconds = sorted(answers), told, seconds
        self.given: list[str] = []
        self.number = 0
        self._start()

    def _start(self) -> None:
        inside, self.control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside:
            self.walled = Walled("judge", default_policy(), [inside.fileno()], self.answers)

    def close(self) -> None:
        """End it."""
        self.walled.kill()
        self.control.close()

    def give(self, source: str) -> None:
        """Have it run a cell that tests rely on; a later judge runs it again."""
        self.given.append(source)
        self._run(source, None)

    def verdict(self, source: str, line: socket.socket | None) -> Verdict:
        """Have it run a test on the student's process at the other end of `line`; end it where it is late."""
        found = self._run(source, line)
        if found is None:
            self.close()
            self._start()
            for cell in self.given:
                self._run(cell, None)
        return found or LATE

    def _run(self, source: str, line: socket.socket | None) -> Verdict | None:
        """What it found; None where it gave no verdict in time, which then is nobody else's either."""
        self.number += 1
        request = json.dumps({"source": source, "number": self.number, **self.told}).encode()
        self.control.settimeout(self.seconds)
        try:
            socket.send_fds(self.control, [request], [line.fileno()] if line else [])
            while (reply := json.loads(self.control.recv(MESSAGE)))["number"] != self.number:
                pass  # of a given cell that overran
            return Verdict(**reply["verdict"])
        except (OSError, ValueError):
            return None
