"""What a disk would hold after a power cut at any moment, told from the calls that a program made.

The calls really happen; beside them a model keeps what was synced. Two disks bound all that can be found after a cut: on the
*lazy* one neither names nor data reach the disk before they are synced, on the *eager* one each name is there at once, and
data only once it is synced.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

Disk = dict[str, bytes]


@dataclass
class _Node:
    """A file or a folder: what it is now, and what of it is synced."""

    folder: bool
    data: bytes = b""
    synced_data: bytes = b""
    names: dict[str, "_Node"] = field(default_factory=dict)
    synced_names: dict[str, "_Node"] = field(default_factory=dict)


class WatchedDisk:
    """The folder `root`, empty at first, and all that happens below it through `os`, while the patch lasts."""

    def __init__(self, root: str, patch: pytest.MonkeyPatch, look: Callable[["WatchedDisk"], None]) -> None:
        self.root, self.look, self.calls = root, look, list[str]()
        self._top = _Node(folder=True)
        self._nodes: dict[int, _Node] = {}
        for name in ("open", "close", "write", "fsync", "fdatasync", "link", "unlink", "mkdir", "replace"):
            self._wrap(patch, name, getattr(os, name), getattr(self, f"_{name}"))
        patch.setattr("ray_pipeline.delivery.local_trails._sync_data", os.fdatasync)

    def _wrap(self, patch: pytest.MonkeyPatch, name: str, real: Callable[..., Any], note: Callable[..., None]) -> None:
        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            note(result, *arguments)
            self.calls.append(name)
            self.look(self)
            return result

        patch.setattr(os, name, call)

    def lazy(self) -> Disk:
        """What is there if nothing was written back that nobody asked to sync."""
        return dict(_files(self._top, "", lambda node: node.synced_names))

    def eager(self) -> Disk:
        """What is there if each name was written back at once, and no data."""
        return dict(_files(self._top, "", lambda node: node.names))

    def _place(self, path: Any) -> tuple[_Node, str] | None:
        text = os.fspath(path)
        if not text.startswith(f"{self.root}/"):
            return None
        *folders, name = text[len(self.root) + 1 :].split("/")
        node = self._top
        for folder in folders:
            node = node.names[folder]
        return node, name

    def _open(self, descriptor: int, path: Any, flags: int, *_: Any) -> None:
        if os.fspath(path) == self.root:
            self._nodes[descriptor] = self._top
        elif place := self._place(path):
            folder, name = place
            self._nodes[descriptor] = folder.names.setdefault(name, _Node(folder=False))

    def _close(self, _: None, descriptor: int) -> None:
        self._nodes.pop(descriptor, None)

    def _write(self, count: int, descriptor: int, data: Any) -> None:
        if node := self._nodes.get(descriptor):
            node.data += bytes(data)[:count]

    def _fsync(self, _: None, descriptor: int) -> None:
        if node := self._nodes.get(descriptor):
            node.synced_data, node.synced_names = node.data, dict(node.names)

    _fdatasync = _fsync

    def _link(self, _: None, source: Any, target: Any, **__: Any) -> None:
        (old, old_name), (new, new_name) = self._place(source), self._place(target)
        new.names[new_name] = old.names[old_name]

    def _unlink(self, _: None, path: Any, **__: Any) -> None:
        if place := self._place(path):
            place[0].names.pop(place[1])

    def _mkdir(self, _: None, path: Any, *__: Any, **___: Any) -> None:
        if place := self._place(path):
            place[0].names[place[1]] = _Node(folder=True)

    def _replace(self, _: None, source: Any, target: Any, **__: Any) -> None:
        (old, old_name), (new, new_name) = self._place(source), self._place(target)
        new.names[new_name] = old.names.pop(old_name)


def _files(node: _Node, path: str, names: Callable[[_Node], dict[str, _Node]]) -> Iterator[tuple[str, bytes]]:
    for name, inner in names(node).items():
        if inner.folder:
            yield from _files(inner, f"{path}{name}/", names)
        else:
            yield f"{path}{name}", inner.synced_data
