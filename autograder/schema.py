"""How a course lies on disk, numbered: one made by an earlier version is brought up to date step by step.

1: the courses of the first version, without a number. 2: `intake/` and `attempts/` beside nbgrader's folders;
the gradebook at the head of nbgrader's own migrations, which step 1 brings it to.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from nbgrader import dbutil

from autograder import Refusal

FILE = "schema"


def alembic_on_path() -> None:
    """nbgrader runs `alembic`, which lies beside this Python, perhaps not on the PATH."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def _gradebook_to_head(db_url: str) -> None:
    alembic_on_path()
    dbutil.upgrade(db_url)


STEPS: list[Callable[[str], None]] = [_gradebook_to_head]  # from 1, from 2, ...
CURRENT = len(STEPS) + 1


def schema_of(root: Path) -> int:
    """A course's number."""
    path = root / FILE
    return int(path.read_text()) if path.is_file() else 1


def write_schema(root: Path, number: int = CURRENT) -> None:
    """Say that the course is laid out like `number`."""
    (root / FILE).write_text(f"{number}\n")


def check_schema(root: Path) -> None:
    """Raise Refusal where the course is another version's."""
    found = schema_of(root)
    if found < CURRENT:
        raise Refusal(f"{root} was made by an earlier version: run `autograder upgrade {root}`.")
    if found > CURRENT:
        raise Refusal(
            f"{root} was made by a later version (schema {found}, here {CURRENT}): install that one."
        )


def upgrade(root: Path, db_url: str) -> int:
    """Bring a course up to date; each step that is done is done for good. Gives how many there were."""
    found = schema_of(root)
    for number, step in enumerate(STEPS[found - 1 :], found):
        step(db_url)
        write_schema(root, number + 1)
    return max(0, CURRENT - found)
