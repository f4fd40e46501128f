"""What the commands have in common that turn every row of a manifest into rows of results: options in, exit code out."""

import argparse
import os
import sys

from jobs.options import RunParser, SettingsRefused, add_run_options, resolve
from jobs.stopping import stoppable
from schemas.job import JobSettings
from schemas.reading import Task


def needs(settings: JobSettings) -> tuple[str, ...]:
    """Columns that a run cannot do without, besides id and image_uri."""
    for_phrases = () if settings.label.phrases else ("phrases",)
    columns: dict[Task, tuple[str, ...]] = {"answer": ("question",), "ocr": (), "label": for_phrases}
    return columns[settings.task]


def run_rows(task: Task, description: str | None, argv: list[str] | None) -> int:
    """Run the command of that name; returns the exit code of the interface. Without `argv` it is the whole process."""
    return stoppable(lambda: _rows(task, description, argv), ends_process=argv is None)


def _rows(task: Task, description: str | None, argv: list[str] | None) -> int:
    parser = RunParser(prog=f"fovea {task}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_options(parser)
    options = parser.parse_args(argv)
    from jobs.run import REFUSED, RunRefused, execute, prepare  # takes seconds, in which signals must be heard already

    try:
        settings = resolve(options, os.environ, task)
        prepared = prepare(settings, needs=needs(settings), retry_failed=options.retry_failed)
    except (SettingsRefused, RunRefused) as refusal:
        print(f"fovea {task}: {refusal}", file=sys.stderr)
        return REFUSED
    return execute(prepared)
