"""No cgroup outlives its grader for long."""

import subprocess
import sys
from pathlib import Path

from autograder.runtime.cgroup import Cgroup

# Ends without clearing away, as by a SIGKILL.
KILLED = """
from autograder.runtime.cgroup import Cgroup
print(*Cgroup.make(1, 1 << 30, 9, 1.0).folders, sep="\\n")
"""


def test_what_a_killed_grader_left_is_removed_at_the_next_start():
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=True)
    left = [Path(line) for line in done.stdout.splitlines()]
    mine = Cgroup.make(99, 1 << 30, 9, 1.0)
    assert left and not any(folder.exists() for folder in left)
    assert all(folder.exists() for folder in mine.folders)
    mine.remove()
    assert not any(folder.exists() for folder in mine.folders)
