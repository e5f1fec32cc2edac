"""Becomes a child of the supervisor: `python -I -S launch.py PARENT SIGNAL IDENTITY PROGRAM [ARG…]`.

Runs in the new process, before the program takes its place (so the pid stays), because this can't be done safely
between fork and exec of a process with threads. Only the standard library: it must start within milliseconds.

PARENT    the supervisor's pid; if it is gone already, nothing is started
SIGNAL    the number of the signal that the kernel sends when the supervisor dies, however it dies (Linux)
IDENTITY  `self`; or, for programs that refuse to run as root, `namespace` (a user namespace in which it looks as if the
          account `nobody` ran it and owned its files) or `nobody` (really, with root's right to read and write files)
"""

import ctypes
import os
import pwd
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
FIRST_LISTENER = 3


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilitySets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _checked(call: str, *arguments: object) -> None:
    if getattr(_libc(), call)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def enter_user_namespace() -> None:
    """Be `nobody` in a new user namespace, and for files still oneself. Raises OSError or KeyError."""
    uid, gid, account = os.getuid(), os.getgid(), pwd.getpwnam("nobody")
    _checked("unshare", CLONE_NEWUSER)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{account.pw_uid} {uid} 1"),
        ("gid_map", f"{account.pw_gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def become_nobody() -> None:
    """Run as the account `nobody`, with the capability to pass file permissions kept. Raises OSError or KeyError."""
    account = pwd.getpwnam("nobody")
    _checked("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    kept = 1 << CAP_DAC_OVERRIDE
    sets = (_CapabilitySets * 2)(_CapabilitySets(kept, kept, kept), _CapabilitySets(0, 0, 0))
    _checked("capset", ctypes.byref(_CapabilityHeader(CAPABILITY_VERSION_3, 0)), sets)
    _checked("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def _hand_over_listener(descriptor: int) -> None:
    """Pass an open listening socket on the way that systemd does: as descriptor 3, meant for this pid."""
    os.dup2(descriptor, FIRST_LISTENER)
    if descriptor != FIRST_LISTENER:
        os.close(descriptor)
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}


def main(arguments: list[str]) -> None:
    """Take the identity, tie this process's life to the parent's, and become the program."""
    parent, number, identity, *command = arguments
    if identity == "namespace":
        enter_user_namespace()
    elif identity == "nobody":
        become_nobody()
    if sys.platform == "linux":
        # After the change of identity, which clears it.
        _checked("prctl", PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the supervisor is gone")
    if "LISTEN_FDS" in os.environ:
        _hand_over_listener(int(os.environ["LISTEN_FDS"]))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
