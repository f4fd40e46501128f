"""The table of hostile and good addresses through a whole fetcher: contacts at canaries, good ones refused, secrets shown.

Every vector is tried from fetchers of its own settings as a manifest's row would be; names, redirects and rebinding
come from an internet pretended on this machine, and every connection of the process is watched.
"""

import tempfile
from pathlib import Path

from benchmarks.faults.figures import Figure, Figures, table
from schemas.status import Status
from tests.faults.pretended_internet import PretendedInternet
from tests.faults.uri_vectors import GOOD, REBINDING, REDIRECTS, REFUSED


def measure() -> Figures:
    """Seconds; needs nothing but this machine, and `openssl` for the https part."""
    with tempfile.TemporaryDirectory() as folder, PretendedInternet(Path(folder)).running() as internet:
        hostile = [uri for family in REFUSED.values() for uri in family]
        found = _verdicts(internet, hostile + _redirects(internet, False))
        for name in REBINDING:
            found |= _rebound(internet, name)
        good = [uri for uri in GOOD + _redirects(internet, True) if internet.secure or not uri.startswith("https")]
        read = _verdicts(internet, good)
        contacts, lookups = internet.contacts.stray(), len(internet.strange)
    denied = sum(verdict != Status.FETCH_DENIED for verdict in found.values())
    return [
        Figure("hostile vectors run", len(found), 150, len(found), at_most=False),
        Figure("connections at canaries or anywhere else", contacts, 0, len(found)),
        Figure("names looked up without permission", lookups, 0, len(found)),
        Figure("hostile vectors not denied", denied, 0, len(found)),
        Figure("good URIs refused", sum(verdict != "ok" for verdict in read.values()), 0, len(read)),
        Figure("credentials at web hosts", len(internet.credentials_seen), 0, len(read)),
        Figure("messages with a secret", sum("secret" in one for one in (found | read).values()), 0, len(found) + len(read)),
    ]


def _verdicts(internet: PretendedInternet, uris: list[str]) -> dict[str, str]:
    fetcher = internet.fetcher()
    return {uri: internet.verdict(fetcher, uri) for uri in uris}


def _redirects(internet: PretendedInternet, allowed: bool) -> list[str]:
    numbered = [(number, one) for number, one in enumerate(REDIRECTS) if one.allowed == allowed]
    kept = [(number, one) for number, one in numbered if internet.secure or "https" not in one.start + one.location]
    return [f"{one.start}://images.example.org/to/{number}" for number, one in kept]


def _rebound(internet: PretendedInternet, name: str) -> dict[str, str]:
    """The second address of a name that was public at first; once as a new row, once as the next hop of a redirect."""
    fetcher, found = internet.fetcher(), {}
    internet.asked[name] = 0
    internet.verdict(fetcher, f"http://{name}/a.jpg")
    found[f"{name}, second row"] = internet.verdict(fetcher, f"http://{name}/a.jpg")
    internet.asked[name] = 0
    found[f"{name}, next hop"] = internet.verdict(fetcher, f"http://{name}/hops/1")
    return found


if __name__ == "__main__":
    print(table("URI policy", measure()))
