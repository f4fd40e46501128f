"""`python -m tests.faults.hash_ocr ...`: the command `ocr` as it is, with the digest model in place of a real one."""

import sys

import ray_pipeline.worker
from jobs import ocr
from tests.stand_ins.hash_model import load_hash


def main(argv: list[str] | None = None) -> int:
    """The exit code of `ocr`."""
    ray_pipeline.worker.WorkOrder.__init__.__defaults__ = (False, load_hash)
    return ocr.main(argv)


if __name__ == "__main__":
    sys.exit(main())
