"""Attacks on the machine, the course and the others, run inside a walled kernel: each must be stopped there."""

import asyncio
import os
import socket

import psutil
import pytest
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from autograder.course import configure
from autograder.runtime.client import ensure_zygote
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
    "see the parent of its parent": "import os; print('owned' if os.getppid() > 1 else '')",
    "a process group with the grader in it": "import os; print('owned' if os.getpgrp() == 0 else '')",
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
    "calls newer than the filter": "import ctypes\nfor n in (428, 429, 432, 437, 438, 440, 442, 444, 447, 451, 458):\n"
    "    if ctypes.CDLL(None).syscall(n, -100, b'/', 0, 0, 0, 0) >= 0: print('owned', n)",
    "a call in the manner of x32": "{child}('import ctypes; print(ctypes.CDLL(None).syscall(0x40000000 | 39))')",
    "a call in the manner of i386": "{child}('import ctypes, mmap; m = mmap.mmap(-1, 4096, prot=7); '\n"
    "'m.write(bytes.fromhex(\"b814000000cd80c3\")); at = ctypes.addressof(ctypes.c_char.from_buffer(m)); '\n"
    "'print(ctypes.CFUNCTYPE(ctypes.c_int)(at)())')",
    "write into process 1": "open('/proc/1/mem', 'r+b'); print('owned')",
    "personality": "{call}(135, 0x0040000)",
    "a new user namespace by clone": "{call}(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "chroot": "import os; os.chroot('/tmp'); print('owned')",
    "a device": "import os; os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0)); open('/tmp/disk'); print('owned')",
    "a sysctl": "open('/proc/sys/kernel/hostname', 'w').write('x'); print('owned')",
    "raise a limit": "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (99999, 99999)); print('owned')",
    "read another's memory": "{call}(310, {pid}, 0, 0, 0, 0, 0)",
    "write another's memory": "{call}(311, {pid}, 0, 0, 0, 0, 0)",
    "a handle on a process": "{call}(434, {pid}, 0)",
    "a file by its handle": "{call}(303, -100, b'/', 0, 0, 0)",
    "clone3": "{call}(435, 0, 0)",
    "a kernel module": "{call}(175, 0, 0, b'')",
    "the machine's name": "{call}(170, b'x', 1)",
    "the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, 0); print('owned')",
    "asynchronous disk access": "{call}(206, 8, 0)",
    "the kernel's log": "{call}(103, 3, 0, 0)",
    "a higher priority": "import os; os.nice(-5); print('owned')",
    "real-time scheduling": "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); print('owned')",
    "the buses and the firmware": "import os; os.listdir('/sys'); print('owned')",
    "where a core is dumped": "open('/proc/sys/kernel/core_pattern', 'w').write('x'); print('owned')",
    "the machine's memory": "open('/dev/mem', 'rb').read(1); print('owned')",
    "sysrq": "open('/proc/sysrq-trigger', 'w').write('h'); print('owned')",
    "a file that the grader left open": "import os\nfor n in os.listdir('/proc/self/fd'):\n"
    "    try: place = os.readlink(f'/proc/self/fd/{{n}}')\n    except OSError: continue\n"
    "    if place.startswith('/') and not place.startswith(('/proc', '/dev/')): print('owned', place)",
    "mounts outside": "print('owned' if {folder!r} in open('/proc/self/mountinfo').read() else '')",
    "a program with more rights": "import subprocess; print('owned' if subprocess.run(['su', '-c', 'id -u'], "
    "capture_output=True, stdin=subprocess.DEVNULL, timeout=5).stdout.strip() == b'0' else '')",
    "site-packages renamed": "import os, torch; os.rename(os.path.dirname(torch.__file__), '/tmp/torch'); print('owned')",
    "the models' cache": "import os; p = os.environ.get('TOOLKIT_CACHE') or '/root/.cache/aula-peft'; "
    "open(p + '/evil', 'w'); print('owned')",
    "fill the disk": "f = open('/tmp/big', 'wb')\nfor _ in range(2000): f.write(bytes(1 << 20))\nprint('owned')",
    "fill the inodes": "for n in range(50_000): open(f'/dev/shm/{{n}}', 'w')\nprint('owned')",
    "open files without end": "files = [open('/dev/null') for _ in range(5_000)]; print('owned')",
    "threads without end": "import threading, time\nfor _ in range(2_000): "
    "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\nprint('owned')",
}
# The C library's syscall; prints "owned" where the number is not refused.
CALL = "(lambda *a: print('owned' if __import__('ctypes').CDLL(None).syscall(*a) >= 0 else ''))"
# Python code in a process of its own, which the filter may kill; prints "owned" where it came to its end.
CHILD = (
    "(lambda code: print('' if __import__('subprocess').run([__import__('sys').executable, '-S', '-c', code])"
    ".returncode else 'owned'))"
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What each attack printed; all in one kernel, whose grader has a secret and listens on loopback."""
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
            "child": CHILD,
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
    configure(Config(), tmp_path)
    daemon = f"import subprocess; subprocess.Popen(['bash', '-c', 'exec -a {name} sleep 99'], start_new_session=True)"
    seen = f"import subprocess; print(subprocess.run(['pgrep', '-f', '^{name}'], capture_output=True).returncode)"
    assert walled.run(daemon, "import time; time.sleep(0.5)", seen)[-1] == "0"
    running = [_command(pid) for pid in os.listdir("/proc") if pid.isdigit()]
    assert not [command for command in running if command.startswith(name)]


def test_nothing_outlives_its_guard(tmp_path):
    """A thread that becomes another program has lost the signal that the death of its parent would send."""
    name = f"orphan{os.getpid()}"
    configure(Config(), tmp_path)
    become = f"threading.Thread(target=os.execv, args=('/bin/sleep', ['{name}', '99'])).start()"

    async def left():
        manager = AsyncKernelManager(kernel_name="walled")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=30)
        client.execute(f"import os, threading\nfor _ in range(3): os.fork()\n{become}")
        while len(orphans := [p for p in psutil.process_iter() if _command(p.pid).startswith(name)]) < 8:
            await asyncio.sleep(0.1)
        first = min(orphans, key=lambda process: len(process.parents()))
        first.parents()[1].kill()  # as the machine does where memory is short
        _, alive = psutil.wait_procs(orphans, 10)
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        return alive

    assert asyncio.run(left()) == []


def test_a_kernel_leaves_nothing_for_the_next(tmp_path):
    configure(Config(), tmp_path)
    places = [
        "~/x",
        "/tmp/x",
        "/dev/shm/x",
        "~/.cache/huggingface/x",
        "~/.ipython/profile_default/startup/x.py",
    ]
    write = (
        f"import os\nfor p in map(os.path.expanduser, {places}):\n"
        "    os.makedirs(os.path.dirname(p), exist_ok=True); open(p, 'w').write('owned')"
    )
    poison = "import torch, builtins, sys; torch.marked = builtins.marked = sys.marked = 'owned'"
    read = (
        f"import os\nprint([p for p in map(os.path.expanduser, {places}) if os.path.exists(p)], "
        "[hasattr(m, 'marked') for m in map(__import__, ('torch', 'builtins', 'sys'))])"
    )
    assert walled.run(write, poison, read)[-1].endswith("[True, True, True]")
    assert walled.run(read) == ["[] [False, False, False]"]


def test_no_form_of_the_lessons_notebook_is_in_the_home(tmp_path):
    """Some keep a notebook as a script or a text beside it, solutions and hidden tests in all of them."""
    configure(Config(), tmp_path)
    content = tmp_path / "01_soma"
    for name in (
        "01_soma.ipynb",
        "01_soma.py",
        "01_soma.md",
        ".ipynb_checkpoints/01_soma-checkpoint.ipynb",
        "d.csv",
    ):
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text("x")
    seen = "import os; print(sorted(name for *_, names in os.walk('.') for name in names if name[0] in '0d'))"
    assert walled.run(seen, cwd=str(content)) == ["['d.csv']"]


def test_two_kernels_at_a_time_do_not_meet(tmp_path):
    """Neither by abstract sockets nor by System V shared memory nor in /dev/shm."""
    configure(Config(), tmp_path)
    offer = (
        "import socket, ctypes, time; s = socket.socket(socket.AF_UNIX); s.bind('\\0meeting'); s.listen()\n"
        "open('/dev/shm/meeting', 'w').write('x')\n"
        "print(ctypes.CDLL(None).shmget(4711, 4096, 0o1666) >= 0); time.sleep(8)"
    )
    seek = (
        "import socket, ctypes, os, time; time.sleep(4)\nif os.path.exists('/dev/shm/meeting'): print('owned')\n"
        "if ctypes.CDLL(None).shmget(4711, 4096, 0) >= 0: print('owned')\n"
        "try:\n    socket.socket(socket.AF_UNIX).connect('\\0meeting'); print('owned')\nexcept OSError: pass"
    )

    async def both():
        return await asyncio.gather(walled.arun(offer), walled.arun(seek))

    (offered,), (found,) = asyncio.run(both())
    assert offered == "True" and found == ""


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""
