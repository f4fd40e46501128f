"""The column `phrases` of a manifest: its forms, its place in the digest, its way to a worker, what is refused unread."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.intake.manifest import Manifest, ManifestRefused, open_manifest, read_rows
from ray_pipeline.pipeline import part_table, table_part
from schemas.manifest import Part


def opened(path: Path, needs: tuple[str, ...] = (), passthrough: tuple[str, ...] = (), **columns: Any) -> Manifest:
    pq.write_table(pa.table({"id": ["r0", "r1"], "image_uri": ["0.png", "1.png"], **columns}), path)
    return open_manifest(str(path), None, needs, passthrough)


TEXT = pa.string()
DICTIONARY = pa.dictionary(pa.int32(), TEXT)


@pytest.mark.parametrize(
    "kind", [pa.list_(TEXT), pa.large_list(pa.large_string()), pa.list_(TEXT, 2), pa.list_(DICTIONARY)], ids=str
)
def test_forms_of_phrases(tmp_path: Path, kind: pa.DataType) -> None:
    phrases = pa.array([["a", "b"], None], kind)
    manifest = opened(tmp_path / "m.parquet", ("phrases",), phrases=phrases)
    rows = read_rows(manifest, 0, 2)
    assert [row.phrases for row in rows] == [("a", "b"), None]
    assert table_part(part_table(Part(0, 0, 2), rows)) == [(Part(0, 0, 2), rows)]
    without = opened(tmp_path / "w.parquet", ("phrases",), phrases=pa.nulls(2))
    assert without.digest == opened(tmp_path / "n.parquet").digest
    other = opened(tmp_path / "o.parquet", phrases=pa.array([None, ["a", "b"]], kind))
    assert len({manifest.digest, without.digest, other.digest}) == 3
    passed = opened(tmp_path / "p.parquet", passthrough=("phrases",), phrases=phrases)
    assert [row.extra for row in read_rows(passed, 0, 2)] == [{"phrases": ["a", "b"]}, {"phrases": None}]


def repeated(text: str, times: int) -> pa.Array:
    """A list of one text so many times, which a file keeps once."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))
    return pa.ListArray.from_arrays(pa.array([0, times, times], pa.int32()), values)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, ("no column 'phrases'",)),
        ({"phrases": pa.array([["a", None], None])}, ("phrases of row 0 (id 'r0') hold a null, expected texts",)),
        ({"phrases": pa.array([["a"], ["b", "c" * 1001]])}, ("of row 1 (id 'r1')", "1001 characters, expected at most 1000")),
        ({"phrases": pa.array([["a"] * 1001, None])}, ("a row has 1001 phrases, expected at most 1000",)),
        ({"phrases": repeated("x" * 60_000, 100_000)}, ("a row has 100000 phrases",)),
        ({"phrases": repeated("x" * 70_000, 100_000)}, ("70000 bytes in column 'phrases', expected at most 65536",)),
        ({"phrases": pa.array([[1], None])}, ("'phrases'", "expected list<string>")),
        ({"phrases": ["a", "b"]}, ("'phrases'", "expected list<string>")),
    ],
)
def test_phrases_are_refused(tmp_path: Path, columns: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ManifestRefused) as refused:
        opened(tmp_path / "m.parquet", ("phrases",), **columns)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)
