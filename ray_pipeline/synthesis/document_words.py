"""Word lists of several languages that documents are put together from; they stand in `document_words.txt`."""

from pathlib import Path


def sections_of(file: Path) -> dict[str, list[str]]:
    """The lists of a file: each headed by its name in brackets, entries ended by bars, lines with # left out."""
    sections: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            entries = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            entries += line.split("|")[:-1]
    return sections


_SECTIONS = sections_of(Path(__file__).with_suffix(".txt"))
GOODS = _SECTIONS["goods"]
TRADE = _SECTIONS["trade"]
PLACES = _SECTIONS["places"]
PLAIN = _SECTIONS["plain"]
LABELS = _SECTIONS["labels"]
FIELDS = _SECTIONS["fields"]
HEADINGS = _SECTIONS["headings"]
COMPANIES = _SECTIONS["companies"]
CURRENCIES = _SECTIONS["currencies"]
UNITS = _SECTIONS["units"]
TAX_CODES = _SECTIONS["tax_codes"]
MONTHS = _SECTIONS["months"]
ONSETS = _SECTIONS["onsets"]
NUCLEI = _SECTIONS["nuclei"]
CODAS = _SECTIONS["codas"]
