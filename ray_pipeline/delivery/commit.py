"""The output folder, wherever it is: files are committed under a name once, whole, and never changed after that."""

import re

from ray_pipeline.delivery.fail_points import FailPoints
from ray_pipeline.delivery.local_store import LocalStore
from ray_pipeline.delivery.local_trails import LocalTrails
from ray_pipeline.delivery.remote_store import RemoteStore
from ray_pipeline.delivery.remote_trails import RemoteTrails
from ray_pipeline.delivery.trail import Trail, TrailEnd, Trails

# What is written here is named by counters and fixed words; anything else is a mistake, or an attack by data.
NAME = re.compile(r"(?:results/)?[a-z][a-z0-9_-]{0,63}\.(?:parquet|json|html)", re.ASCII)
STEM = re.compile(r"part-[0-9]{5,18}", re.ASCII)
REPLACEABLE = frozenset({"metrics.json", "run.json"})


class Output:
    """The output folder at a local path, a `file://` URI or any other fsspec URI. Nothing is touched until it is used.

    Raises:
        ValueError: the URI is empty, chained (`a::b`) or has control characters in it.
    """

    def __init__(self, uri: str) -> None:
        if not uri or "::" in uri or any(ord(character) < 32 for character in uri):
            raise ValueError(f"output {uri!r}; expected a plain path or one URI")
        self.uri = uri
        local = uri.removeprefix("file://") if "://" not in uri or uri.startswith("file://") else None
        self.fail_points = FailPoints()
        self._store: LocalStore | RemoteStore
        self._trails: Trails
        if local is None:
            self._store = RemoteStore(uri, self.fail_points)
            self._trails = RemoteTrails(self._store)
        else:
            self._store = LocalStore(local, self.fail_points)
            self._trails = LocalTrails(local, self.fail_points)

    def create(self, name: str, data: bytes) -> bool:
        """Commit a file; True once it is there for good, False if somebody else had committed that name already."""
        return self._store.create(_checked(name), data)

    def reopen(self) -> None:
        """Withdraw index.json: the folder is incomplete until an index is committed again. No-op where there is none."""
        self._store.remove("index.json")

    def supersede(self, name: str, data: bytes) -> None:
        """Put a recomputed part in the place of the old one, whole at every moment; only while the folder is reopened.

        An index that another driver committed in that same instant vouches for the old bytes, and is withdrawn again.

        Raises:
            ValueError: index.json is there, which vouches for the old bytes.
        """
        if self.exists("index.json"):
            raise ValueError(f"{name!r} is vouched for by index.json; the folder must be reopened first")
        self.fail_points.reach("supersede.before")
        self._store.replace(_checked(name), data)
        self.fail_points.reach("supersede.after")
        if self.exists("index.json"):
            self.reopen()

    def replace(self, name: str, data: bytes) -> None:
        """Write metrics.json or run.json anew; a reader sees the old file or the new one, never a mixture."""
        if name not in REPLACEABLE:
            raise ValueError(f"{name!r} is committed once and stays; only {', '.join(sorted(REPLACEABLE))} may change")
        self._store.replace(name, data)

    def read(self, name: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._store.read(_checked(name))

    def read_result(self, name: str) -> bytes:
        """The file `name` of the folder `results`, a name as `list_results` gives it."""
        if "/" in name or "\0" in name or name in {"", ".", ".."}:
            raise ValueError(f"result file {name!r}; expected a name without a folder")
        return self._store.read(f"results/{name}")

    def exists(self, name: str) -> bool:
        """Whether the file is committed."""
        return self._store.exists(_checked(name))

    def present(self) -> bool:
        """Whether there is such a folder at all (in an object store: whether it holds anything)."""
        return self._store.present()

    def list_results(self) -> list[str]:
        """Names of everything in the folder `results`, sorted, without the folder: `part-00000.parquet`."""
        return self._store.names("results")

    def clean_staging(self) -> int:
        """Remove what killed writers left behind; files being written now stay. How many were removed."""
        return self._store.clean_staging()

    def start_trail(self, stem: str) -> TrailEnd:
        """A journal of this process about the part `part-00003`; nothing is written until its first record."""
        return self._trails.start(_checked_stem(stem))

    def read_trails(self, stem: str) -> list[Trail]:
        """The journals that all writers left about the part."""
        return self._trails.read(_checked_stem(stem))

    def remove_trails(self, stem: str) -> None:
        """Remove all journals of the part, whoever wrote them; to be done only once the part is committed."""
        self._trails.remove(_checked_stem(stem), living=True)

    def clean_journals(self) -> int:
        """Remove journals of committed parts that dead writers left; how many.

        To be done when the folder is complete, not before: a committed part that is being computed again has a journal, too.
        A writer that still lives on this or another machine loses nothing, as on POSIX its journal stays, and elsewhere it
        loses what would have saved it work after its death.
        """
        stems = [stem for stem in self._trails.stems() if self.exists(f"results/{stem}.parquet")]
        return sum(self._trails.remove(stem, living=False) for stem in stems)

    def writable_check(self) -> None:
        """Make the folder and try a commit in its `.staging`.

        Raises:
            OSError: results could not be committed here.
        """
        self._store.writable_check()

    def creates_once(self) -> bool:
        """Whether the place itself keeps two drivers apart. If not, a store without conditional writes, run one at a time.

        Raises:
            OSError: the store does not answer, or nothing can be written.
        """
        return self._store.creates_once()


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"output file {name!r}; expected a name such as results/part-00000.parquet or index.json")
    return name


def _checked_stem(stem: str) -> str:
    if not STEM.fullmatch(stem):
        raise ValueError(f"part {stem!r}; expected a name such as part-00003")
    return stem
