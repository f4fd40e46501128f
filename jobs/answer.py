"""Answer one question per picture: manifest in, answers with boxes and confidences out.

Example:
  fovea answer --manifest archive/manifest.parquet --output results --model embedded --actors 2
"""

import sys

from jobs.row_command import run_rows


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code of the interface. Without arguments of its own it is the whole process."""
    return run_rows("answer", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
