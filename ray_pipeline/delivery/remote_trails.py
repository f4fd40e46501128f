"""Trails in an object store: `.journal/part-00003/<32 hex digits>-000007.json`, one object per record.

Objects cannot be appended to and know no locks: each record is one put of its own, under a name that nobody else uses,
and nobody counts as living.
"""

import re
import uuid

from ray_pipeline.delivery.remote_store import RemoteStore
from ray_pipeline.delivery.trail import Trail

FOLDER = ".journal"
STEM = re.compile(r"part-[0-9]{5,18}", re.ASCII)
NAME = re.compile(r"([0-9a-f]{32})-([0-9]{6,12})\.json", re.ASCII)


class RemoteTrails:
    """The trails below `.journal`. Other objects there are left alone."""

    def __init__(self, store: RemoteStore) -> None:
        self.store = store

    def start(self, stem: str) -> "RemoteTrail":
        """A new trail of this process."""
        return RemoteTrail(self.store, stem)

    def read(self, stem: str) -> list[Trail]:
        """What all writers left; all records are fetched at once, and one that goes away meanwhile counts as removed."""
        self.store.fail_points.reach("recover.scan")
        found = [(name, match[1], int(match[2])) for name in self._names(stem) if (match := NAME.fullmatch(name))]
        records = self.store.read_many([f"{FOLDER}/{stem}/{name}" for name, _, _ in found])
        writers: dict[str, dict[int, bytes]] = {}
        for name, writer, place in found:
            if data := records.get(f"{FOLDER}/{stem}/{name}"):
                writers.setdefault(writer, {})[place] = data
        return [Trail(writer, False, b"".join(own[place] for place in sorted(own))) for writer, own in writers.items()]

    def stems(self) -> list[str]:
        """The parts that have a trail."""
        return [name for name in self.store.names(FOLDER) if STEM.fullmatch(name)]

    def remove(self, stem: str, living: bool) -> int:
        """Delete the objects, as far as that is allowed: a role that may only write leaves them, and they are never read."""
        names = [f"{FOLDER}/{stem}/{name}" for name in self._names(stem) if NAME.fullmatch(name)]
        if names:
            self.store.fail_points.reach("recover.delete")
        return self.store.remove_many(names)

    def _names(self, stem: str) -> list[str]:
        return self.store.names(f"{FOLDER}/{stem}")


class RemoteTrail:
    """One writer's records, numbered from 0."""

    def __init__(self, store: RemoteStore, stem: str) -> None:
        self.store, self.stem = store, stem
        self.writer, self.count = uuid.uuid4().hex, 0

    def append(self, record: bytes) -> None:
        """One put. Repeated after a lost reply it writes the same bytes to the same name."""
        self.store.fail_points.reach("journal.before_write")
        name = f"{FOLDER}/{self.stem}/{self.writer}-{self.count:06d}.json"
        self.count += 1
        self.store.fail_points.reach("journal.middle")
        self.store.replace(name, record)
        self.store.fail_points.reach("journal.after_sync")

    def close(self) -> None:
        """Nothing is held open."""
