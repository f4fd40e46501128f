"""What a Parquet footer says of rows, columns and their sizes, read without the library that would act on it.

The footer is one struct in Thrift's compact protocol. Field numbers are those of Parquet's `FileMetaData`.
"""

from dataclasses import dataclass
from typing import Any

_ROWS, _GROUPS, _ENCRYPTION = 3, 4, 8  # of FileMetaData
_COLUMNS, _GROUP_ROWS = 1, 3  # of RowGroup
_ELSEWHERE, _META = 1, 3  # of ColumnChunk
_PATH, _VALUES, _UNPACKED = 3, 5, 6  # of ColumnMetaData
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST = 24


@dataclass(frozen=True)
class ColumnFacts:
    """`path` is the column's name and, in nested ones, those below it; `values` counts the members of lists, too."""

    path: tuple[str, ...]
    values: int
    unpacked_bytes: int


@dataclass(frozen=True)
class GroupFacts:
    """A row group."""

    rows: int
    columns: tuple[ColumnFacts, ...]


def read_footer(footer: bytes) -> tuple[GroupFacts, ...]:
    """The row groups in their order.

    Raises:
        ValueError: no footer, counts that contradict each other, encrypted columns, or columns kept in other files.
    """
    try:
        fields = _Thrift(footer).struct(0)
        groups = tuple(_group(group) for group in fields[_GROUPS])
        rows = fields[_ROWS]
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a footer that cannot be read ({type(error).__name__})") from None
    if _ENCRYPTION in fields:
        raise ValueError("encrypted columns, expected plain ones")
    total = sum(group.rows for group in groups)
    if rows != total or any(group.rows < 0 for group in groups):
        raise ValueError(f"{rows} rows in its footer and {total} in its row groups")
    return groups


def _group(fields: dict[int, Any]) -> GroupFacts:
    return GroupFacts(int(fields[_GROUP_ROWS]), tuple(_column(column) for column in fields[_COLUMNS]))


def _column(fields: dict[int, Any]) -> ColumnFacts:
    if _ELSEWHERE in fields:
        raise ValueError("columns kept in other files, expected none")
    if _META not in fields:
        raise ValueError("encrypted columns, expected plain ones")
    meta = fields[_META]
    path = tuple(name.decode("utf-8", "replace") for name in meta[_PATH])
    return ColumnFacts(path, int(meta[_VALUES]), int(meta[_UNPACKED]))


class _Thrift:
    """Compact protocol; IndexError where the bytes end too early, ValueError where they are nonsense."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Values by field number."""
        if depth > _DEEPEST:
            raise ValueError(f"a footer more than {_DEEPEST} levels deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._zigzag()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind in (_TRUE, _FALSE, _BYTE):  # members of lists take a byte each
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _MAP:
            return self._map(depth)
        raise ValueError(f"a footer with a value of type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        self._refuse_count(count)
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> dict[Any, Any]:
        count = self._varint()
        self._refuse_count(count)
        kinds = self._byte() if count else 0
        return {place: (self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)) for place in range(count)}

    def _refuse_count(self, count: int) -> None:
        if count > len(self._data) - self._place:
            raise ValueError(f"a footer that promises {count} values in {len(self._data)} bytes")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a footer with a number of more than 64 bits")

    def _byte(self) -> int:
        byte = self._data[self._place]
        self._place += 1
        return byte

    def _bytes(self, size: int) -> bytes:
        piece = self._data[self._place : self._place + size]
        if len(piece) != size:
            raise IndexError
        self._place += size
        return piece
