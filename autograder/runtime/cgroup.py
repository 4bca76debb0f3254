"""A cgroup for each kernel: memory, processes and CPU of all its processes together; v1 or v2.

On v2 the folder that is divided must be ours alone, with no process in itself. Systemd gives such a one on
request, a scope; where it does not rule (a container), the processes of our own cgroup move one down.
"""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

V1_FILES = {
    "memory": {"memory.limit_in_bytes": "{memory}", "memory.memsw.limit_in_bytes": "{memory}"},
    "pids": {"pids.max": "{processes}"},
    "cpu": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "{quota}"},
}
V2_FILES = {
    "memory": {"memory.max": "{memory}", "memory.swap.max": "0"},
    "pids": {"pids.max": "{processes}"},
    "cpu": {"cpu.max": "{quota} 100000"},
}
CONTROLLERS = set(V2_FILES)
PREFIX = "autograder-"
LEAF = "grader"  # where the warm parent is on v2, beside the kernels
# Where the machine has no swap these are missing, and not needed.
OPTIONAL = {"memory.memsw.limit_in_bytes", "memory.swap.max"}


@dataclass(frozen=True)
class Cgroup:
    """The folders of one kernel's cgroup; one on v2, one a controller on v1."""

    folders: tuple[Path, ...]

    @classmethod
    def make(cls, number: int, memory: int, processes: int, cpus: float) -> "Cgroup":
        """This process's limited cgroup of that number; raises OSError where the machine does not let us.

        `memory` in bytes.
        """
        values = {"memory": memory, "processes": processes, "quota": int(cpus * 100_000)}
        made = []
        try:
            for parent, files in _parents().items():
                _sweep(parent)
                made.append(parent / f"{PREFIX}{os.getpid()}-{number}")
                made[-1].mkdir()
                _limit(made[-1], files, values)
        except OSError:
            cls(tuple(made)).remove()
            raise
        return cls(tuple(made))

    def enter(self) -> None:
        """Move this process, and all that it will start, into the cgroup."""
        for folder in self.folders:
            _write(folder / "cgroup.procs", str(os.getpid()))

    def remove(self) -> None:
        """Remove the folders of a cgroup whose processes are gone."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def move_into_scope() -> None:
    """Start this program again, as the same process, in a scope of its own, where systemd gives one.

    Systemd clears it away when the last process in it is dead, however that died.
    """
    unit = f"{PREFIX}{os.getpid()}.scope"
    if _v1_parents() or unit in Path("/proc/self/cgroup").read_text():
        return
    user = os.geteuid()
    os.environ["XDG_RUNTIME_DIR"] = f"/run/user/{user}"  # where a user's own systemd listens
    run = ["systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes"]
    run += ["--user"] if user else []
    with contextlib.suppress(FileNotFoundError):
        if not subprocess.run([*run, "true"], capture_output=True, check=False).returncode:
            os.execvp(run[0], [*run, f"--unit={unit}", "--", *sys.orig_argv])


def _limit(folder: Path, files: Mapping[str, str], values: Mapping[str, object]) -> None:
    for file, value in files.items():
        if file not in OPTIONAL or (folder / file).exists():
            _write(folder / file, value.format(**values))


def _write(file: Path, text: str) -> None:
    """Write, with the file's name in what a refusal says."""
    try:
        file.write_text(text)
    except OSError as error:
        if (file.name, error.errno) != ("cpu.cfs_quota_us", errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(file)) from None
        # v1 refuses a kernel more CPU than the grader has itself, and that limit holds.


def _sweep(parent: Path) -> None:
    """Remove what graders left that were killed: the cgroups named after a process that is no more."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            Cgroup((folder,)).remove()


def _parents() -> dict[Path, dict[str, str]]:
    """Where this process may make cgroups, and the files to write there."""
    if v1 := _v1_parents():
        return v1
    mounts = dict(_mounts())
    if "" not in mounts:
        raise OSError(errno.ENOENT, "no cgroup file system with memory, pids and cpu", "/proc/self/mounts")
    home = mounts[""] / dict(_own())[""].lstrip("/")
    home = home.parent if home.name == LEAF else home
    _divide(home)
    return {home: {file: value for files in V2_FILES.values() for file, value in files.items()}}


def _v1_parents() -> dict[Path, dict[str, str]]:
    """The same for v1, a folder a controller; nothing where it lacks one."""
    mounts, own = dict(_mounts()), dict(_own())
    if not V1_FILES.keys() <= mounts.keys() & own.keys():
        return {}
    return {mounts[name] / own[name].lstrip("/"): files for name, files in V1_FILES.items()}


def _divide(home: Path) -> None:
    """Let cgroups below `home` have limits; its own processes must then move, but for the machine's root."""
    control = home / "cgroup.subtree_control"
    if missing := CONTROLLERS - set((home / "cgroup.controllers").read_text().split()):
        raise OSError(errno.ENOENT, f"without the controllers {', '.join(sorted(missing))}", str(home))
    wanted = " ".join(f"+{name}" for name in sorted(CONTROLLERS))
    try:
        _write(control, wanted)  # no error where it is so already
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _move_down(home)
        _write(control, wanted)


def _move_down(home: Path) -> None:
    leaf = home / LEAF
    leaf.mkdir(exist_ok=True)
    while processes := (home / "cgroup.procs").read_text().split():  # one may fork while others move
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                _write(leaf / "cgroup.procs", process)


def _own() -> Iterator[tuple[str, str]]:
    """Controller ("" for v2) and this process's place in its tree."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        yield from ((name, path) for name in names.split(","))


def _mounts() -> Iterator[tuple[str, Path]]:
    """Controller ("" for v2) and where it is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            yield "", Path(place)
        elif kind == "cgroup":
            yield from ((name, Path(place)) for name in options.split(",") if name in V1_FILES)
