"""The two sides of the wall in one process: the server of student code in a thread of its own."""

import contextlib
import socket
import threading

from autograder.judge.remote import Wall
from autograder.judge.server import Server


@contextlib.contextmanager
def served(**names):
    """A wall behind which these names are the student's."""
    here, there = socket.socketpair()
    with here, there:
        thread = threading.Thread(target=Server(names).serve, args=(there,), daemon=True)
        thread.start()
        wall = Wall(here, 5)
        yield wall
        wall.done()
        thread.join(5)
