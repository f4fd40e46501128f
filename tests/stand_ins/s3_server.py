"""An S3 server on this machine, in a process of its own: its library warns, and warnings are errors here."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """The server's address. It takes a free port itself, and writes its log below `folder`."""
    log = folder / "s3_server.log"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("wb") as words, subprocess.Popen(command, stdout=words, stderr=words, env=environment) as server:
        try:
            while not (address := re.search(r"Running on (http://\S+)", log.read_text())):
                assert server.poll() is None, f"the S3 server ended: {log.read_text()}"
                time.sleep(0.05)
            yield address[1]
        finally:
            server.kill()
