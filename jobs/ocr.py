"""Read all text of every page: manifest in, lines with boxes and confidences and the text in reading order out.

Rows need no question. A document's pages become one row each, unless the manifest names the `page`.

Example:
  fovea ocr --manifest scans/manifest.parquet --output texts --actors 2 --set ocr.columns=false
"""

import sys

from jobs.row_command import run_rows


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code of the interface. Without arguments of its own it is the whole process."""
    return run_rows("ocr", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
