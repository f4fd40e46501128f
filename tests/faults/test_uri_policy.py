"""The whole table of hostile addresses through a fetcher with a generous policy: no canary is contacted, no good one refused."""

import socket
from collections.abc import Iterator

import pytest

from schemas.status import Status
from tests.faults.pretended_internet import PretendedInternet
from tests.faults.uri_vectors import GOOD, REBINDING, REDIRECTS, REFUSED, count


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PretendedInternet]:
    with PretendedInternet(tmp_path_factory.mktemp("internet")).running() as running:
        yield running
        assert running.strange == []
        assert running.credentials_seen == []


@pytest.fixture(autouse=True)
def no_contact(internet: PretendedInternet) -> Iterator[None]:
    yield
    dialled, internet.contacts.dialled = internet.contacts.dialled, []
    assert (dialled, internet.contacts.accepted) == ([], 0)


def start(number: int) -> str:
    return f"{REDIRECTS[number].start}://images.example.org/to/{number}"


def verdicts(internet: PretendedInternet, uris: list[str]) -> dict[str, str]:
    fetcher = internet.fetcher()
    return {uri: internet.verdict(fetcher, uri) for uri in uris}


def test_the_table_is_large() -> None:
    assert count() >= 150
    assert all(len(set(uris)) == len(uris) for uris in REFUSED.values())


@pytest.mark.parametrize("family", REFUSED)
def test_refused(internet: PretendedInternet, family: str) -> None:
    found = verdicts(internet, REFUSED[family])
    assert {uri: status for uri, status in found.items() if status != Status.FETCH_DENIED} == {}


def test_good_ones_are_read(internet: PretendedInternet) -> None:
    uris = [uri for uri in GOOD if internet.secure or not uri.startswith("https")]
    assert {uri: status for uri, status in verdicts(internet, uris).items() if status != "ok"} == {}


@pytest.mark.parametrize("allowed", [False, True])
def test_redirects(internet: PretendedInternet, allowed: bool) -> None:
    chosen = [number for number, one in enumerate(REDIRECTS) if one.allowed == allowed]
    chosen = [
        number for number in chosen if internet.secure or "https" not in (REDIRECTS[number].start + REDIRECTS[number].location)
    ]
    found = verdicts(internet, [start(number) for number in chosen])
    expected = "ok" if allowed else Status.FETCH_DENIED
    assert {REDIRECTS[number].location: found[start(number)] for number in chosen if found[start(number)] != expected} == {}


@pytest.mark.parametrize("name", REBINDING)
def test_rebinding(internet: PretendedInternet, name: str) -> None:
    """The first answer is public and is dialled as it was checked; nobody asks again until the next address is fetched."""
    fetcher = internet.fetcher()
    internet.asked[name] = 0
    assert internet.verdict(fetcher, f"http://{name}/a.jpg") == "ok"
    assert internet.asked[name] == 1
    assert internet.verdict(fetcher, f"http://{name}/a.jpg") == Status.FETCH_DENIED
    internet.asked[name] = 0
    assert internet.verdict(fetcher, f"http://{name}/hops/1") == Status.FETCH_DENIED


def test_signed_requests_follow_no_redirect(internet: PretendedInternet) -> None:
    """What a store answers is not where its keys go."""
    assert internet.verdict(internet.fetcher(), "s3://archive/to-canary") == Status.FETCH_FAILED


def test_names_are_looked_up_only_when_allowed(internet: PretendedInternet) -> None:
    """A name can carry data out by being asked for."""
    before = internet.asked.copy()
    fetcher = internet.fetcher()
    for uri in ("http://data.evil.example/", "http://images.example.org:22/", "s3://other/a", "http://a@images.example.org/"):
        assert internet.verdict(fetcher, uri) == Status.FETCH_DENIED
    assert (internet.asked, internet.strange) == (before, [])


def test_the_canaries_would_notice(internet: PretendedInternet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests rest on: without the check of addresses both kinds of watch see the contact."""
    monkeypatch.setattr("ray_pipeline.intake.public_ip.is_public", lambda address: True)
    fetcher, port = internet.fetcher(), internet.contacts.port
    for host in ("127.0.0.1", "::1")[: internet.contacts.canaries]:
        before = internet.contacts.accepted
        spelt = f"[{host}]" if ":" in host else host
        assert internet.verdict(fetcher, f"http://{spelt}:{port}/a") == Status.FETCH_FAILED  # it hangs up
        assert (internet.contacts.dialled.pop(), internet.contacts.accepted) == ((host, port), before + 1)
        internet.contacts.accepted = before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("169.254.169.254", 80))
    assert internet.contacts.dialled.pop() == ("169.254.169.254", 80)
