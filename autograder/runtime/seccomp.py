"""The system calls that student code may not make."""

import errno
import socket
import sys

# Ways to change the machine, to look into other processes, and large, rarely needed parts of the kernel.
DENIED = """
    ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd pidfd_open perf_event_open
    mount umount2 pivot_root chroot swapon swapoff quotactl acct sethostname setdomainname
    unshare setns bpf userfaultfd fanotify_init name_to_handle_at open_by_handle_at lookup_dcookie
    add_key request_key keyctl io_setup io_submit io_getevents io_destroy io_cancel
    init_module finit_module delete_module kexec_load kexec_file_load reboot syslog vhangup
    settimeofday clock_settime clock_adjtime adjtimex nfsservctl personality iopl ioperm modify_ldt
    mbind set_mempolicy migrate_pages move_pages seccomp
"""
# From number 424 on (io_uring, new mount calls, ...) only these: what Linux adds later is closed at first.
ALLOWED_NEW = ("close_range", "faccessat2", "epoll_pwait2", "futex_waitv", "fchmodat2")
NEW_CALLS = range(424, 560)
NAMESPACES = 0x7E020000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C


def load() -> None:
    """Filter this thread, and all that come from it, for good; raises OSError where that is impossible.

    A denied call fails with EPERM, a new one with ENOSYS (then glibc uses the older); a call in another
    architecture's manner kills.
    """
    try:
        from pyseccomp import ALLOW, ERRNO, MASKED_EQ, NE, Arg, SyscallFilter, resolve_syscall
    except (ImportError, RuntimeError) as reason:  # the package, or the library that it binds
        raise OSError(errno.ENOSYS, f"libseccomp is not installed ({reason})") from None
    rules = SyscallFilter(ALLOW)
    for name in DENIED.split():
        if 0 <= resolve_syscall(None, name) < NEW_CALLS.start:  # negative: not on this architecture
            rules.add_rule(ERRNO(errno.EPERM), name)
    allowed = {resolve_syscall(None, name) for name in ALLOWED_NEW}
    for number in NEW_CALLS:
        if number not in allowed:
            rules.add_rule(ERRNO(errno.ENOSYS), number)
    # Not even VSOCK, whose sockets do not care for the network namespace.
    rules.add_rule(ERRNO(errno.EAFNOSUPPORT), "socket", Arg(0, NE, socket.AF_UNIX))
    for bit in (1 << n for n in range(32) if NAMESPACES >> n & 1):  # CLONE_NEWNS and its like
        rules.add_rule(ERRNO(errno.EPERM), "clone", Arg(0, MASKED_EQ, bit, bit))
    for request in (TIOCSTI, TIOCLINUX):
        rules.add_rule(ERRNO(errno.EPERM), "ioctl", Arg(1, MASKED_EQ, 0xFFFFFFFF, request))
    rules.load()


def preload() -> None:
    """Import what `load` needs while the files are still in sight; its absence shows in `load`."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError):
        sys.modules.pop("pyseccomp", None)
    else:
        del pyseccomp
