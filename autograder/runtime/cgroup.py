"""A cgroup for each kernel: memory, processes and CPU of all its processes together; v1 or v2."""

import contextlib
import os
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
# Where the machine has no swap these are missing, and not needed.
OPTIONAL = {"memory.memsw.limit_in_bytes", "memory.swap.max"}


@dataclass(frozen=True)
class Cgroup:
    """The folders of one kernel's cgroup; one on v2, one a controller on v1."""

    folders: tuple[Path, ...]

    @classmethod
    def make(cls, name: str, memory: int, processes: int, cpus: float) -> "Cgroup":
        """A limited cgroup below this process's own; raises OSError where the machine does not let us.

        `memory` in bytes.
        """
        values = {"memory": memory, "processes": processes, "quota": int(cpus * 100_000)}
        parents = _parents()
        made = []
        try:
            for parent, files in parents.items():
                made.append(parent / name)
                made[-1].mkdir()
                _limit(made[-1], files, values)
        except OSError:
            cls(tuple(made)).remove()
            raise
        return cls(tuple(made))

    def enter(self) -> None:
        """Move this process, and all that it will start, into the cgroup."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """Remove the folders of a cgroup whose processes are gone."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _limit(folder: Path, files: Mapping[str, str], values: Mapping[str, object]) -> None:
    for file, value in files.items():
        if file not in OPTIONAL or (folder / file).exists():
            (folder / file).write_text(value.format(**values))


def _parents() -> dict[Path, dict[str, str]]:
    """Where this process may make cgroups, and the files to write there."""
    mounts = dict(_mounts())
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    v1 = {
        mounts[name] / path.lstrip("/"): V1_FILES[name]
        for _, names, path in own
        for name in names.split(",")
        if name in V1_FILES and name in mounts
    }
    if len(v1) == len(V1_FILES):
        return v1
    if "" not in mounts:
        raise FileNotFoundError("no cgroup file system with memory, pids and cpu is mounted")
    home = mounts[""] / next(path for _, names, path in own if not names).lstrip("/")
    _delegate(home)
    return {home: {file: value for files in V2_FILES.values() for file, value in files.items()}}


def _delegate(home: Path) -> None:
    """Give v2's controllers to cgroups below `home`, in which itself no process may then be."""
    if not {"memory", "pids", "cpu"} <= set((home / "cgroup.subtree_control").read_text().split()):
        (home / "grader").mkdir(exist_ok=True)
        for process in (home / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                (home / "grader" / "cgroup.procs").write_text(process)
        (home / "cgroup.subtree_control").write_text("+memory +pids +cpu")


def _mounts() -> Iterator[tuple[str, Path]]:
    """Controller ("" for v2) and where it is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            yield "", Path(place)
        elif kind == "cgroup":
            yield from ((name, Path(place)) for name in options.split(",") if name in V1_FILES)
