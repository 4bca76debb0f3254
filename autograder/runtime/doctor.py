"""Which of the sandbox's protections this machine gives: each is tried, none is believed."""

from autograder import Refusal
from autograder.runtime.client import Walled, default_policy
from autograder.runtime.sandbox import PROTECTIONS

# What gives a protection to a machine that lacks it.
REMEDIES = {
    "namespaces": "run it as root, or let users have them: sudo sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 23.10 and newer), "
    "kernel.unprivileged_userns_clone=1 (older Debian); a container: docs/guide.md step 1",
    "cgroup": "run it as root, or let systemd give this user one: sudo loginctl enable-linger $USER; "
    "where it is a controller that lacks, or in a container: docs/guide.md step 1",
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
