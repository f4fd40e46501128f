"""Answer one question per picture: manifest in, answers with boxes and confidences out.

Example:
  fovea answer --manifest archive/manifest.parquet --output results --model embedded --actors 2
"""

import argparse
import os
import sys

from jobs.options import RunParser, SettingsRefused, add_run_options, resolve
from jobs.stopping import stoppable


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code of the interface. Without arguments of its own it is the whole process."""
    return stoppable(lambda: _answer(argv), ends_process=argv is None)


def _answer(argv: list[str] | None) -> int:
    parser = RunParser(prog="fovea answer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_options(parser)
    options = parser.parse_args(argv)
    from jobs.run import REFUSED, RunRefused, execute, prepare  # takes seconds, in which signals must be heard already

    try:
        prepared = prepare(resolve(options, os.environ), needs=("question",), retry_failed=options.retry_failed)
    except (SettingsRefused, RunRefused) as refusal:
        print(f"fovea answer: {refusal}", file=sys.stderr)
        return REFUSED
    return execute(prepared)


if __name__ == "__main__":
    sys.exit(main())
