"""What the sandbox needs of a machine is tried, and its absence refused."""

import signal

import pytest
from typer.testing import CliRunner

from autograder import Refusal, cli
from autograder.runtime import client
from autograder.runtime.client import Walled, default_policy


def test_this_machine_gives_all_protections():
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0 and result.output.count("holds") == 3


def test_what_cannot_be_given_is_refused_with_the_reason():
    with pytest.raises(Refusal, match=r"autograder doctor"):
        Walled("probe", default_policy(read_only=("/nowhere",)))


def test_a_signal_to_what_is_ending_is_no_error():
    walled = Walled("judge", default_policy(), [0], [])
    walled.end()
    walled.signal(signal.SIGKILL)
    walled.kill()
    assert walled.poll() is not None


def test_only_what_exists_can_be_waived(monkeypatch):
    monkeypatch.setenv(client.WEAKER_VARIABLE, "")
    assert "memory" in client.waive(["cgroup"])[0]
    with pytest.raises(Refusal, match="namespaces, cgroup, seccomp"):
        client.waive(["walls"])
