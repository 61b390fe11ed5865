"""What a body, which parses strangers' files, can reach: a clean environment, its own folder and Python's libraries, and no network.

Landlock (landlock(7)) restricts the calling thread and all that it starts, needs no privilege, and binds root too once that has given up its
capabilities. A body cannot read the memory, environment or descriptors of processes outside of its sandbox, though their user is the same.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]

NETWORK_ABI = 4  # the version of Landlock from which it restricts TCP

_VARIABLES = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|TMPDIR|TEMP|TMP|VIRTUAL_ENV|PYTHON[A-Z]+"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_[A-Z_]+|MALLOC_[A-Z_]+|GLIBC_TUNABLES"
    r"|[A-Z]+_(NUM|MAX|IO)_THREADS|(OMP|KMP|GOMP|MKL|OPENBLAS)_[A-Z_]+|LOKY_MAX_CPU_COUNT|(CUDA|NVIDIA)_VISIBLE_DEVICES"
)
_SYSTEM_PATHS = (
    *("/bin", "/lib", "/lib32", "/lib64", "/sbin", "/usr", "/nix/store", "/proc", "/sys"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm")  # noqa: S108 - where process pools have their semaphores

# From linux/landlock.h. The numbers of the system calls are the same on all architectures that Python has wheels for.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_LAST_RIGHT = {1: 12, 2: 13, 3: 14, 4: 14}  # the last bit of file rights by version; later ones have `_IOCTL_DEV`
_TCP = 0b11  # bind, connect
_SCOPE_ABI = 6
_SCOPES = 0b11  # abstract sockets, signals
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_LIBC = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_VERSION = 0x20080522  # of capset(2): 64 capabilities


class _RulesetAttributes(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def clean_environment(environment: Mapping[str, str], further: Collection[str] = ()) -> dict[str, str]:
    """Return the variables that a body gets: what Python and numerical libraries read, and those named `further`."""
    return {name: value for name, value in environment.items() if _VARIABLES.fullmatch(name) or name in further}


@functools.cache
def landlock_abi() -> int:
    """The version of Landlock in this kernel; 0 if it has none, or a container's seccomp profile forbids it."""
    if sys.platform != "linux":
        return 0
    return max(0, _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION))


@functools.cache
def library_paths() -> tuple[str, ...]:
    """The files of the system and of Python. Of this project, and of a folder that has it, only packages are granted: others lie beside them."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    paths = [f"{prefix}/{name}" for prefix in prefixes for name in ("bin", "lib", "lib64", "pyvenv.cfg")]
    surrounding = {str(folder) for base in (PROJECT_ROOT, Path.cwd()) for folder in (base, *base.parents)}
    paths += [entry for entry in sys.path if os.path.realpath(entry) not in surrounding]
    paths += [str(PROJECT_ROOT / "workers"), os.path.dirname(os.path.realpath(sys.executable))]  # noqa: PTH120 - as text, like the others
    return tuple(dict.fromkeys(os.path.realpath(path) for path in (*_SYSTEM_PATHS, *paths)))


def drop_capabilities() -> None:
    """Give up root's privileges, also for programs started later: a CAP_PERFMON would read other processes, whatever Landlock forbids."""
    if sys.platform != "linux":
        return
    number = 0
    while _LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0:  # ends with the last one, or at once if there are none to drop
        number += 1
    _LIBC.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


class Sandbox:
    """The sandbox of this process. What does not depend on the body is done here, while the process waits for its request.

    Where `landlock_abi` is 0, only drops capabilities. Raises `OSError` if the kernel refuses.
    """

    def __init__(self) -> None:
        abi = landlock_abi()
        self._ruleset: int | None = None
        if abi:
            self._all_rights = (1 << _LAST_RIGHT.get(abi, 15) + 1) - 1
            network = _TCP if abi >= NETWORK_ABI else 0
            attributes = _RulesetAttributes(self._all_rights, network, _SCOPES if abi >= _SCOPE_ABI else 0)
            size = 24 if abi >= _SCOPE_ABI else 16 if abi >= NETWORK_ABI else 8  # earlier kernels know the first fields only
            self._ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
            self._allow(library_paths(), _READ)
            self._allow(_DEVICES, self._all_rights)

    def enter(self, target: str, writable: Iterable[str]) -> None:
        """Restrict this thread, and what it starts, to the libraries, the package of `target` and the paths `writable`.

        Lower the priority before: without a capability, the kernel changes that of few sessions a second.
        """
        drop_capabilities()
        if self._ruleset is None:
            return
        self._allow(_package_paths(target), _READ)
        self._allow(writable, self._all_rights)
        if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
        _call(_RESTRICT_SELF, self._ruleset, 0)
        os.close(self._ruleset)

    def _allow(self, paths: Iterable[str], rights: int) -> None:
        for path in paths:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:  # not every system has all of them
                continue
            try:
                is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                rule = _PathBeneath(rights & self._all_rights & (-1 if is_folder else _FILE_RIGHTS), descriptor)
                _call(_ADD_RULE, self._ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(descriptor)


def _package_paths(target: str) -> Sequence[str]:
    """The folder of the top-level package of "package.module:function"; also makes Python list its import path while it still may."""
    spec = importlib.util.find_spec(re.split("[.:]", target, maxsplit=1)[0])
    return [] if spec is None else [*(spec.submodule_search_locations or ())]


def _call(number: int, *arguments: object) -> int:
    result = _LIBC.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
