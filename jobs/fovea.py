"""`fovea NAME …` runs the command NAME, the same as `python -m jobs.NAME …`."""

import difflib
import importlib
import sys

from jobs.stopping import stoppable

COMMANDS = {  # name → module (imported when it runs, so that --help is quick), one line
    "answer": ("jobs.answer", "one question per row: answer, box and confidences"),
    "ocr": ("jobs.ocr", "one page per row: text lines with boxes, page text in reading order"),
    "label": ("jobs.label", "phrases or a vocabulary: a box for each place of each phrase"),
    "plan": ("jobs.plan", "foretell a run: rows, refusals, views, tokens, hours and money"),
    "verify": ("jobs.verify", "prove an output folder complete and untouched, offline"),
    "evaluate": ("jobs.evaluate", "score a finished run against references in its manifest"),
    "calibrate": ("jobs.calibrate", "labelled rows: a model's profile, with calibrated confidences and a strategy"),
    "report": ("jobs.report", "one self-contained HTML page of a run"),
    "export": ("jobs.export", "results as coco, label-studio, hocr, alto, searchable-pdf, jsonl or csv"),
    "demo": ("jobs.demo", "make pictures with known answers and run everything on them"),
    "train_embedded": ("jobs.train_embedded", "the recipe that made the embedded model"),
    "train_finder": ("jobs.train_finder", "the recipe that made its line finder"),
    "train_reader": ("jobs.train_reader", "the recipe that made its line reader"),
    "train_documents": ("jobs.train_documents", "the recipe that made the model for documents"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command with the remaining arguments; its exit code, or 2 for an unknown name."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(COMMANDS)}"
        print(f"fovea: unknown command {' '.join(name.split())}; {hint}", file=sys.stderr)
        return 2
    # The last moments belong to it too: a signal after the command has returned must not spoil its exit code.
    return stoppable(lambda: int(importlib.import_module(COMMANDS[name][0]).main(rest)), ends_process=argv is None)


def usage() -> str:
    """The commands, one line each."""
    lines = [f"  {name:<16}{line}" for name, (_, line) in COMMANDS.items()]
    example = "example: fovea answer --manifest rows.parquet --output results --config run.yaml"
    return "\n".join(["usage: fovea NAME ...", "", *lines, "", "fovea NAME --help says more.", example])


if __name__ == "__main__":
    sys.exit(main())
