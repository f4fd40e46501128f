"""The two spellings in which texts are compared, so that every score means the same by "the same text"."""


def collapsed(text: str) -> str:
    """Runs of white space, line breaks too, as one space; none at the ends. Case stays."""
    return " ".join(text.split())


def folded(text: str) -> str:
    """As `collapsed`, in lower case: how answers are compared."""
    return collapsed(text).lower()
