"""A process walls itself in: namespaces, a file system of its own, limits, no rights, a system call filter.

The order matters, and every step raises OSError where the machine does not give it: nothing is skipped that
the policy does not name. Must run in a process with one thread.
"""

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.runtime import hidden, linux, seccomp

# What a grader can, on its own risk, do without; and what is lost then.
PROTECTIONS = {
    "namespaces": "student code sees the course, other students' work, the processes and the network",
    "cgroup": "memory, processes and CPU are limited for each process only, not for a submission as a whole",
    "seccomp": "student code can attack the whole of the operating system's kernel",
}
USER, HOME = 1000, "/home/aluno"
ADDRESS_SPACE = 8 << 30  # torch maps more than it uses
FIRST_HOST_USER, HOST_USERS = 60_000, 5_000
DEVICES = ("null", "zero", "full", "random", "urandom")
ETC = ("ld.so.cache", "localtime", "fonts", "alternatives")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": HOME,
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONNOUSERSITE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",  # torch.compile gives the function itself: there is no compiler inside
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HOME": f"{HOME}/.cache/huggingface",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "NBGRADER_EXECUTION": "autograde",  # as nbgrader sets it: lessons run at their reduced size
}
KEPT_ENVIRONMENT = ("TOOLKIT_CACHE",)  # where models lie, shown read-only


@dataclass(frozen=True)
class Policy:
    """The limits of one sandbox (bytes, seconds) and which protections it may do without."""

    memory: int = 4 << 30
    scratch: int = 512 << 20
    inodes: int = 20_000
    processes: int = 128
    files: int = 512
    cpu_seconds: int = 900
    cpus: float = 1.5
    waived: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()  # models, data: seen inside at the same place
    hidden: tuple[str, ...] = ()  # modules that are not to be had inside


def isolate(policy: Policy) -> None:
    """First half, before the fork whose child is process 1: leave the grader's namespaces."""
    if "namespaces" in policy.waived:
        return
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWIPC
    flags |= linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
    if os.geteuid():
        _enter_user_namespace(flags)
    else:
        linux.unshare(flags)


def wall_in(policy: Policy, host_user: int, stage: Path, content: Path | None) -> None:
    """Second half, in that child: a file system with a copy of `content` as home, limits, no rights.

    `stage` is an empty folder that nobody else uses; `host_user` whom a grader run by root becomes.
    """
    spaces, root = "namespaces" not in policy.waived, not os.geteuid()
    os.setsid()  # a signal to the process group knows no namespaces: it would reach the grader
    if spaces:
        linux.set_hostname("aula")
        _build_root(policy, host_user if root else USER, stage, content)
    else:
        os.chdir(stage)
    hidden.forget(policy.hidden)
    _limit(policy)
    if root:
        linux.drop_bounding_set()
        _leave_root(host_user, spaces)
    if spaces:  # in the new user namespace it was full again
        linux.drop_bounding_set()
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)  # not earlier: a change of user clears it
    if "seccomp" not in policy.waived:
        seccomp.load()


def host_user() -> int:
    """The user that this process is to become where root runs the grader; nothing else belongs to it."""
    return FIRST_HOST_USER + os.getpid() % HOST_USERS


def _leave_root(user: int, spaces: bool) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else its own /proc/self belongs to root
    if spaces:
        _enter_user_namespace(0)


def _enter_user_namespace(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER | flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{USER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{USER} {group} 1")


def _limit(policy: Policy) -> None:
    for what, most in (
        (resource.RLIMIT_AS, policy.memory + ADDRESS_SPACE),
        (resource.RLIMIT_NPROC, policy.processes),
        (resource.RLIMIT_NOFILE, policy.files),
        (resource.RLIMIT_FSIZE, policy.scratch),
        (resource.RLIMIT_CPU, policy.cpu_seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # Where memory is short this goes first, not its guard or the grader.
    Path("/proc/self/oom_score_adj").write_text("1000")


def visible() -> Iterator[Path]:
    """What a sandbox sees of this machine's files, read-only: the system's programs, Python, its packages."""
    yield Path("/usr")
    yield from (path for path in map(Path, ("/lib", "/lib64", "/bin", "/sbin")) if path.exists())
    yield from (path for path in (Path("/etc") / name for name in ETC) if path.exists())
    prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    yield from prefixes
    for entry in map(Path, sys.path):
        if entry.is_absolute() and entry.name in ("site-packages", "dist-packages") and entry.exists():
            yield entry
    # One folder, never the one above it: there lie the lessons with their solutions.
    if "toolkit" in sys.modules:
        yield Path(str(sys.modules["toolkit"].__file__)).parent


def _build_root(policy: Policy, owner: int, stage: Path, content: Path | None) -> None:
    """A root of memory: programs read-only, a small /dev, /proc of this namespace, one scratch disk."""
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    safe = linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("tmpfs", str(stage), "tmpfs", safe, "size=1m,mode=755")
    _make_devices(stage)
    # Before the programs: a Python below /tmp shows through it.
    _make_scratch(policy, owner, stage, content)
    for place in sorted({*visible(), *map(Path, policy.read_only)}):
        _show(place, stage)
    hidden.cover(policy.hidden, stage)
    (stage / "proc").mkdir()
    linux.mount("proc", f"{stage}/proc", "proc", safe)
    (stage / "etc").mkdir(exist_ok=True)
    (stage / "etc" / "passwd").write_text(f"aluno:x:{USER}:{USER}::{HOME}:/bin/sh\n")
    (stage / "etc" / "group").write_text(f"aluno:x:{USER}:\n")
    linux.pivot_root(str(stage))
    # The root alone: the scratch disk below it stays writable.
    linux.mount("none", "/", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | safe)
    os.chdir(HOME)


def _show(place: Path, stage: Path) -> None:
    inside = stage / str(place).lstrip("/")
    if place.is_symlink() and str(place.parent) == "/":  # /lib -> usr/lib
        inside.symlink_to(os.readlink(place))
        return
    if inside.exists():  # below something shown already
        return
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.mkdir() if place.is_dir() else inside.touch()
    linux.mount(str(place), str(inside), None, linux.MS_BIND | linux.MS_REC)
    linux.make_read_only(str(inside))


def _make_devices(stage: Path) -> None:
    (stage / "dev" / "pts").mkdir(parents=True)
    for name in DEVICES:
        (stage / "dev" / name).touch()
        linux.mount(f"/dev/{name}", f"{stage}/dev/{name}", None, linux.MS_BIND)
    linux.mount("devpts", f"{stage}/dev/pts", "devpts", linux.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd")):
        (stage / "dev" / name).symlink_to(target)


def _make_scratch(policy: Policy, owner: int, stage: Path, content: Path | None) -> None:
    """The one place to write, limited in bytes and files: home, /tmp and shared memory together."""
    scratch, flags = stage / "scratch", linux.MS_NOSUID | linux.MS_NODEV
    scratch.mkdir()
    size = f"size={policy.scratch},nr_inodes={policy.inodes},mode=755"
    linux.mount("tmpfs", str(scratch), "tmpfs", flags, size)
    # In Colab the home is /content.
    for name, place in (("home", HOME), ("home", "/content"), ("tmp", "/tmp"), ("shm", "/dev/shm")):
        (scratch / name).mkdir(exist_ok=True)
        (stage / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        linux.mount(str(scratch / name), f"{stage}{place}", None, linux.MS_BIND)
    if content is not None:
        _copy_plain(content, scratch / "home")
    for folder, folders, files in os.walk(scratch):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), owner, owner)


def _copy_plain(content: Path, home: Path) -> None:
    """The lesson's own files; no links, and no notebook in any form, for it holds the hidden tests."""
    notebooks = {path.stem for path in content.glob("*.ipynb")}
    for entry in os.scandir(content):
        if entry.is_dir(follow_symlinks=False):
            (home / entry.name).mkdir()
            _copy_plain(Path(entry.path), home / entry.name)
        elif entry.is_file(follow_symlinks=False) and Path(entry.name).stem not in notebooks:
            shutil.copyfile(entry.path, home / entry.name)
