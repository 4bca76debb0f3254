"""Which of the sandbox's protections this machine gives: each is tried, none is believed."""

from autograder import Refusal
from autograder.runtime.client import Walled, default_policy
from autograder.runtime.sandbox import PROTECTIONS


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
