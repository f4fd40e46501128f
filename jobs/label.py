"""Find phrases in every picture: manifest in, a box for each place of each phrase out.

Phrases stand in the column `phrases` (a list of texts per row), or for all rows in the setting `label.phrases`. They are
looked for in the text of the picture; the model is asked where those are that it has not read (`label.find`).
Each box found can be asked about, by `label.attributes`: what is said of it follows the box as regions of kind `attribute`.

Example:
  fovea label --manifest invoices.parquet --output boxes --set 'label.phrases=[invoice number, total]'
"""

import sys

from jobs.row_command import run_rows


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code of the interface. Without arguments of its own it is the whole process."""
    return run_rows("label", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
