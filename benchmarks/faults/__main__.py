"""What goes wrong on purpose: `python -m benchmarks.faults [PROMISE ...]`.

Without a name all promises are measured. Prints a table each, ends with one line of figures; exit 1 where a bar is missed.
"""

import argparse
import importlib
import json
import sys

from benchmarks.faults.figures import Figure, table

# promise -> module of this folder with a `measure()`; imported when it is asked for
PROMISES = {
    "P1": "kills",
    "P3": "journal_kills",
    "P5": "two_drivers",
    "P6": "tampering",
    "P7": "same_bytes",
    "P9": "poison_pictures",
    "P10": "poison_rows",
    "P12": "weather",
    "P15": "manifests",
    "P17": "uris",
    "P19": "model_folders",
    "P20": "texts",
    "P23": "secrets",
}
ALSO = {"P11": "P10", "P13": "P12", "P16": "P9", "P18": "P9", "P21": "P20", "P22": "P20", "P2": "P1"}


def main(argv: list[str] | None = None) -> int:
    """0 where every bar is held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("promise", nargs="*", choices=[*PROMISES, *ALSO], metavar="PROMISE", help=", ".join([*PROMISES, *ALSO]))
    wanted = list(dict.fromkeys(ALSO.get(name, name) for name in parser.parse_args(argv).promise)) or list(PROMISES)
    found: list[Figure] = []
    for name in wanted:
        figures = importlib.import_module(f"benchmarks.faults.{PROMISES[name]}").measure()
        print(table(f"{name} {PROMISES[name].replace('_', ' ')}", figures), flush=True)
        found += figures
    print(json.dumps({one.name: round(one.value, 4) for one in found}))
    return 0 if all(one.held for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
