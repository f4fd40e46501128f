"""What a process gives up for good before it meets the bytes of strangers. Linux; a wall that the host forbids is left out."""

import ctypes
import fcntl
import os
import platform
import resource
import struct

_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_MOST_FILES = 24
_SMALLEST_ROOM_BYTES = 32 << 20
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # 1: EPERM, so that a library's attempt fails and is not fatal
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# All that decoding needs: memory, descriptors it was given, its own signals and limits, clocks. Nothing that names a file,
# makes a socket or a process, or reaches another process. Two numbers: x86_64, aarch64 (null = the call does not exist).
_CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "exit": (60, 93),
    "getrusage": (98, 165),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "ppoll": (271, 73),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}

# Calls that are harmless with these values of their arguments only: (place, value).
_BOUND_CALLS: dict[str, tuple[tuple[int, int], tuple[tuple[int, int], ...]]] = {
    "fcntl": ((72, 25), ((1, fcntl.F_DUPFD_CLOEXEC),)),
    "prlimit64": ((302, 261), ((0, 0), (1, resource.RLIMIT_CPU))),  # its own time, to which each file adds
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def give_up_rights(memory_bytes: int) -> None:
    """No more memory than allowed, no files, no core dumps, few descriptors, no network, no other processes, no words.

    Whatever is to be imported must have been imported.

    Raises:
        MemoryError: the allowed memory does not even hold a small picture; said before the words are taken away.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _try_memory()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # A network of its own has no interface that is up.
    if libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) != 0:
        libc.unshare(_NEW_NETWORK)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    os.close(silent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))
    _allow_few_calls(libc)


def _try_memory() -> None:
    try:
        bytearray(_SMALLEST_ROOM_BYTES)
    except MemoryError:
        raise MemoryError("fetch.decode_memory_bytes is too small for the decoder itself, expected some 500 MB") from None


def _allow_few_calls(libc: ctypes.CDLL) -> None:
    """From here on every other system call fails with EPERM: no file can be opened, not even for reading."""
    architecture = platform.machine()
    if architecture not in _ARCHITECTURES:
        return
    code = _filter_code(_ARCHITECTURES[architecture], list(_ARCHITECTURES).index(architecture))
    program = _Program(len(code) // 8, code)
    libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)


def _filter_code(architecture: int, column: int) -> bytes:
    """Classic BPF: another architecture → refuse; a call of the lists → allow, else refuse.

    The numbers of the x32 interface are larger than any in the lists, so it is refused as a whole.
    """
    refuse, allow = (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)
    lines = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, architecture), refuse, (_LOAD, 0, 0, 0)]
    for numbers, arguments in _BOUND_CALLS.values():
        lines.append((_JUMP_IF_EQUAL, 0, 3 * len(arguments) + 1, numbers[column]))
        for place, value in arguments:
            lines += [(_LOAD, 0, 0, 16 + 8 * place), (_JUMP_IF_EQUAL, 1, 0, value), refuse]
        lines.append(allow)
    for pair in _CALLS.values():
        number = pair[column]
        if number is not None:
            lines += [(_JUMP_IF_EQUAL, 0, 1, number), allow]
    return b"".join(struct.pack("HBBI", *line) for line in [*lines, refuse])
