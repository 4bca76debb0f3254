"""Which of the sandbox's protections this machine gives: each is tried, none is believed."""

from autograder import Refusal
from autograder.runtime.client import Walled, default_policy
from autograder.runtime.sandbox import PROTECTIONS

# What gives a protection to a machine that lacks it.
REMEDIES = {
    "namespaces": "run it as root, or set the sysctl user.max_user_namespaces (Debian: also "
    "kernel.unprivileged_userns_clone) above 0; in a container, start that with --cap-add SYS_ADMIN",
    "cgroup": "run it as root, or under `systemd-run --user --scope -p Delegate=yes`",
    "seccomp": "pip install pyseccomp, and the system's libseccomp (Debian: libseccomp2)",
}


def probe(fds: tuple[int, ...], argument: object) -> None:
    """The role of a process that only has to get behind its walls."""


def examine() -> dict[str, str]:
    """Each protection by name, and why it is missing here; "" where it holds."""
    return {name: _missing(name) for name in PROTECTIONS}


def _missing(name: str) -> str:
    waived = tuple(other for other in PROTECTIONS if other != name)
    try:
        Walled("probe", default_policy(waived=waived)).kill()
    except Refusal as reason:
        return str(reason)
    return ""
