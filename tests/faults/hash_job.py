"""`python -m tests.faults.hash_job ...`: the command `answer` as it is, with the digest model in place of a real one."""

import sys

import ray_pipeline.worker
from jobs import answer
from tests.stand_ins.hash_model import load_hash


def main(argv: list[str] | None = None) -> int:
    """The exit code of `answer`."""
    ray_pipeline.worker.WorkOrder.__init__.__defaults__ = (False, load_hash)
    return answer.main(argv)


if __name__ == "__main__":
    sys.exit(main())
