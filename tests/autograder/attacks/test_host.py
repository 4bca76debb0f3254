"""Attacks on the machine, the course and the others, run inside a walled kernel: each must be stopped there."""

import os

import pytest

from autograder.course import configure
from tests.autograder import walled

# Each prints "owned" where it got through; any exception is a wall that held.
ATTACKS = {
    "read the shadow file": "open('/etc/shadow').read(); print('owned')",
    "read the course": "open({secret!r}).read(); print('owned')",
    "list the course's folder": "import os; os.listdir({folder!r}); print('owned')",
    "read the grader's home": "import os; os.listdir(os.path.expanduser('~root') + '/.ssh'); print('owned')",
    "write to site-packages": "import torch; open(torch.__file__, 'a').write('#'); print('owned')",
    "write to the root": "open('/evil', 'w'); print('owned')",
    "write to /usr": "open('/usr/evil', 'w'); print('owned')",
    "a secret of the environment": "import os; print('owned' if os.environ.get('WALLED_SECRET') else '')",
    "a secret of process 1": "print('owned' if b'WALLED_SECRET' in open('/proc/1/environ', 'rb').read() else '')",
    "see other processes": "import os; print('owned' if [p for p in os.listdir('/proc') if p.isdigit() and "
    "int(p) not in (1, os.getpid())] else '')",
    "signal the grader": "import os; os.kill({pid}, 0); print('owned' if {pid} != os.getpid() else '')",
    "signal the parent": "import os; print('owned' if os.getppid() else '')",
    "become root": "import os; os.setuid(0); print('owned')",
    "hold capabilities": "print('owned' if 'CapEff:\\t0000000000000000' not in open('/proc/self/status').read() "
    "else '')",
    "gain rights by a program": "print('owned' if 'NoNewPrivs:\\t1' not in open('/proc/self/status').read() else '')",
    "TCP to this machine": "import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('owned')",
    "UDP": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM); print('owned')",
    "VSOCK": "import socket; socket.socket(40, socket.SOCK_STREAM); print('owned')",
    "netlink": "import socket; socket.socket(16, socket.SOCK_RAW); print('owned')",
    "raw packets": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print('owned')",
    "an abstract socket of the machine": "import socket; s = socket.socket(socket.AF_UNIX); "
    "s.connect('\\0walled-attack'); print('owned')",
    "the warm parent's socket": "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
    "s.connect({zygote!r}); print('owned')",
    "ptrace": "{call}(101, 16, 1, 0, 0)",
    "mount": "{call}(165, b'tmpfs', b'/tmp', b'tmpfs', 0, 0)",
    "unshare": "{call}(272, 0x10000000)",
    "setns": "{call}(308, 0, 0)",
    "bpf": "{call}(321, 0, 0, 0)",
    "io_uring": "{call}(425, 8, 0)",
    "userfaultfd": "{call}(323, 0)",
    "keyctl": "{call}(250, 0, -3, 0)",
    "perf": "{call}(298, 0, 0, -1, -1, 0)",
    "new mount calls": "{call}(430, b'tmpfs', 0)",
    "personality": "{call}(135, 0x0040000)",
    "a new user namespace by clone": "{call}(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "chroot": "import os; os.chroot('/tmp'); print('owned')",
    "a device": "import os; os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0)); open('/tmp/disk'); print('owned')",
    "a sysctl": "open('/proc/sys/kernel/hostname', 'w').write('x'); print('owned')",
    "raise a limit": "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (99999, 99999)); print('owned')",
    "fill the disk": "f = open('/tmp/big', 'wb')\nfor _ in range(2000): f.write(bytes(1 << 20))\nprint('owned')",
    "fill the inodes": "for n in range(50_000): open(f'/dev/shm/{{n}}', 'w')\nprint('owned')",
    "open files without end": "files = [open('/dev/null') for _ in range(5_000)]; print('owned')",
    "threads without end": "import threading, time\nfor _ in range(2_000): "
    "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\nprint('owned')",
}
# The C library's syscall; prints "owned" where the number is not refused.
CALL = "(lambda *a: print('owned' if __import__('ctypes').CDLL(None).syscall(*a) >= 0 else ''))"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What each attack printed; all in one kernel, whose grader has a secret and listens on loopback."""
    import socket

    from traitlets.config import Config

    from autograder.runtime.client import ensure_zygote

    folder = tmp_path_factory.mktemp("course")
    configure(Config(), folder)
    (folder / "gradebook.db").write_text("secret")
    os.environ["WALLED_SECRET"] = "1"
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0walled-attack")
    abstract.listen()
    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {
            "secret": str(folder / "gradebook.db"),
            "folder": str(folder),
            "pid": os.getpid(),
            "port": server.getsockname()[1],
            "zygote": ensure_zygote(),
            "call": CALL,
        }
        said = walled.run(*(attack.format(**places) for attack in ATTACKS.values()))
    abstract.close()
    del os.environ["WALLED_SECRET"]
    return dict(zip(ATTACKS, said, strict=True))


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_is_stopped(stopped, attack):
    assert "owned" not in stopped[attack]


def test_nothing_outlives_its_kernel(tmp_path):
    """A daemon with a session of its own is dead when the kernel is shut down."""
    name = f"orphan{os.getpid()}"
    from traitlets.config import Config

    configure(Config(), tmp_path)
    daemon = f"import subprocess; subprocess.Popen(['bash', '-c', 'exec -a {name} sleep 99'], start_new_session=True)"
    seen = f"import subprocess; print(subprocess.run(['pgrep', '-f', '^{name}'], capture_output=True).returncode)"
    assert walled.run(daemon, "import time; time.sleep(0.5)", seen)[-1] == "0"
    running = [_command(pid) for pid in os.listdir("/proc") if pid.isdigit()]
    assert not [command for command in running if command.startswith(name)]


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""
