"""Run as a program: gives up its rights, tries what code that took it over would try, and says how each attempt ended.

Arguments: address space in bytes, a folder with a file `kept`, a local socket's path, a descriptor of that file open for
writing, a descriptor to answer on.
"""

import fcntl
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from ray_pipeline.intake.confinement import give_up_rights


def attempts(memory_bytes: int, folder: str, address: str, descriptor: int, parent: int) -> dict[str, Callable[[], object]]:
    """What is tried, by name. The last one is to succeed."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    return {
        "read a file": lambda: os.open(f"{folder}/kept", os.O_RDONLY),
        "make a file": lambda: os.open(f"{folder}/new", os.O_CREAT | os.O_WRONLY),
        "cut a file": lambda: os.truncate(f"{folder}/kept", 0),
        "cut an open file": lambda: os.ftruncate(descriptor, 0),
        "write to an open file": lambda: os.write(descriptor, b"forged"),
        "remove a file": lambda: os.unlink(f"{folder}/kept"),
        "rename a file": lambda: os.rename(f"{folder}/kept", f"{folder}/gone"),
        "make a folder": lambda: os.mkdir(f"{folder}/inner"),
        "make a link": lambda: os.symlink("/etc", f"{folder}/link"),
        "list a folder": lambda: os.listdir(folder),
        "start a process": lambda: os.fork() or os._exit(0),
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "internet": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9)),
        "local socket": lambda: socket.socket(socket.AF_UNIX).connect(address),
        "signal the parent": lambda: os.kill(parent, 0),
        "limit the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CPU, unlimited),
        "signals by descriptor": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
        "more memory": lambda: bytearray(memory_bytes),
        "lift the memory limit": lambda: resource.setrlimit(resource.RLIMIT_AS, unlimited),
        "lift the file limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, unlimited),
        "30 descriptors": lambda: [os.dup(0) for _ in range(30)],
        "32 MB": lambda: bytearray(32 << 20),
    }


def ended(attempt: Callable[[], object]) -> str:
    """`done`, or the name of the error."""
    try:
        attempt()
    except Exception as error:
        return type(error).__name__
    return "done"


def main() -> None:
    """Answers with one JSON object: attempt → how it ended."""
    memory_bytes, folder, address, descriptor, answer = sys.argv[1:]
    parent = os.getppid()
    give_up_rights(int(memory_bytes))
    tried = attempts(int(memory_bytes), folder, address, int(descriptor), parent)
    os.write(int(answer), json.dumps({name: ended(attempt) for name, attempt in tried.items()}).encode())


if __name__ == "__main__":
    main()
