"""Runs a command as a user without rights, a home or a name: python -m ...as_nobody COMMAND...

Where Python lies in a folder that only root may enter, that folder is, for this process alone, replaced by
one in which nothing but Python is.
"""

import os
import sys
import tempfile
from pathlib import Path

from autograder.runtime import linux

USER = 61_234


def open_the_way(python: Path) -> None:
    """Let anybody reach `python`; in a mount namespace of this process's own."""
    closed = [folder for folder in python.parents if not folder.stat().st_mode & 0o001]
    if not closed:
        return
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    aside = tempfile.mkdtemp(dir="/tmp")
    linux.mount(str(python), aside, None, linux.MS_BIND | linux.MS_REC)
    linux.mount("tmpfs", str(closed[-1]), "tmpfs", 0, "mode=755")
    python.mkdir(parents=True)
    linux.mount(aside, str(python), None, linux.MS_BIND | linux.MS_REC)


def main(command: list[str]) -> None:
    """Give up all rights, and become the command."""
    open_the_way(Path(sys.base_prefix).resolve())
    home = tempfile.mkdtemp(dir="/tmp", prefix="nobody-")
    os.chown(home, USER, USER)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    os.environ |= {"HOME": home, "USER": "ninguem", "LOGNAME": "ninguem", "TMPDIR": home}
    os.environ.pop("AUTOGRADER_ZYGOTE", None)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
