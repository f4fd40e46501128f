"""Manifests: what is accepted, what is refused and with which words, and that rows keep their numbers and digest."""

import base64
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.intake.manifest import Manifest, ManifestRefused, cut_parts, open_manifest, read_rows, refuse_unsafe_environment
from schemas.manifest import Part


def table(rows: int, first: int = 0, **columns: Any) -> pa.Table:
    numbers = range(first, first + rows)
    given: dict[str, Any] = {"id": [f"r{number}" for number in numbers], "image_uri": [f"{number}.png" for number in numbers]}
    return pa.table(given | columns)


def written(path: Path, content: pa.Table, **options: Any) -> str:
    pq.write_table(content, path, **options)
    return str(path)


def open_all(uri: str | Path, needs: tuple[str, ...] = (), passthrough: tuple[str, ...] = ()) -> Manifest:
    return open_manifest(str(uri), None, needs, passthrough)


def refusal(uri: str | Path, needs: tuple[str, ...] = (), passthrough: tuple[str, ...] = ()) -> str:
    with pytest.raises(ManifestRefused) as caught:
        open_all(uri, needs, passthrough)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ROWS = ["a", "b", "c"]
STRING_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", STRING_TYPES, ids=str)
def test_forms_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    """Storage is no content: same rows, same digest."""
    columns = {name: pa.array(ROWS).cast(kind) for name in ("id", "image_uri", "question", "extra")}
    manifest = open_all(written(tmp_path / "m.parquet", pa.table(columns)), ("question",), ("extra",))
    plain = pa.table(dict.fromkeys(columns, ROWS))
    assert manifest.digest == open_all(written(tmp_path / "p.parquet", plain), ("question",), ("extra",)).digest
    assert manifest.passthrough == pa.schema([("extra", pa.string())])
    row = read_rows(manifest, 1, 1)[0]
    assert (row.number, row.id, row.image_uri, row.page, row.question, row.extra) == (1, "b", "b", None, "b", {"extra": "b"})


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64(), pa.null()], ids=str)
def test_forms_of_page(tmp_path: Path, kind: pa.DataType) -> None:
    pages = pa.nulls(2) if kind == pa.null() else pa.array([7, None], kind)
    manifest = open_all(written(tmp_path / "m.parquet", table(2, page=pages)))
    assert [row.page for row in read_rows(manifest, 0, 2)] == [None if kind == pa.null() else 7, None]


@pytest.mark.parametrize(
    ("content", "needs", "passthrough", "words"),
    [
        (pa.table({"image_uri": ROWS}), (), (), ("'id'", "image_uri")),
        (pa.table({"id": ROWS}), (), (), ("'image_uri'",)),
        (table(3), ("question",), (), ("'question'",)),
        (table(3), (), ("extra",), ("'extra'",)),
        (table(3, id=[1, 2, 3]), (), (), ("'id'", "int64", "expected string")),
        (table(3, id=[b"a", b"b", b"c"]), (), (), ("'id'", "binary", "expected string")),
        (table(3, id=[["a"], ["b"], ["c"]]), (), (), ("'id'", "list", "expected string")),
        (table(3, image_uri=pa.nulls(3)), (), (), ("'image_uri'", "null", "expected string")),
        (table(3, question=[1, 2, 3]), (), (), ("'question'", "int64", "expected string")),
        (table(3, page=["1", "2", "3"]), (), (), ("'page'", "string", "expected int32")),
        (table(3, page=[1.0, 2.0, 3.0]), (), (), ("'page'", "double", "expected int32")),
        (table(3, page=[1, 2, 2**31]), (), (), ("2147483648", "row 2", "int32")),
        (table(3, id=["a", None, "c"]), (), (), ("row 1", "null")),
        (table(3, id=["a", "", "c"]), (), (), ("row 1", "empty")),
        (table(3, id=["a", "b", "a"]), (), (), ("'a'", "rows 0 and 2", "unique")),
        (table(3, id=["a", "b\n", "c"]), (), (), ("'b\\n'", "control")),
        (table(3, id=["a", "b\0", "c"]), (), (), ("'b\\x00'", "control")),
        (table(3, id=["a", "b\u2028", "c"]), (), (), ("control",)),
        (table(3, image_uri=["a", "b", None]), (), (), ("row 2", "'r2'", "null")),
        (table(3, id=["a", "b", "x" * 70_000]), (), (), ("70000", "65536")),
        (table(3), (), ("status",), ("'status'", "clashes")),
        (table(3, extra=ROWS), (), ("extra", "extra"), ("'extra'", "2 times")),
        (table(0, id=pa.array([], pa.string()), image_uri=pa.array([], pa.string())), (), (), ("0 rows",)),
        (pa.table([ROWS, ROWS, ROWS], names=["id", "id", "image_uri"]), (), (), ("2 columns", "'id'")),
    ],
    ids=range(24),
)
def test_refused(
    tmp_path: Path, content: pa.Table, needs: tuple[str, ...], passthrough: tuple[str, ...], words: tuple[str, ...]
) -> None:
    message = refusal(written(tmp_path / "m.parquet", content), needs, passthrough)
    assert all(word in message for word in words), message


def test_not_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("x")
    (tmp_path / "short.parquet").write_bytes(b"PAR1")
    (tmp_path / "lying.parquet").write_bytes(b"PAR1" + b"x" * 50 + b"\xff\xff\xff\x7fPAR1")
    (tmp_path / "encrypted.parquet").write_bytes(b"PARE" + b"x" * 50 + b"\x08\0\0\0PARE")
    (tmp_path / "noise.parquet").write_bytes(b"PAR1" + b"\xff" * 50 + b"\x20\0\0\0PAR1")
    assert "no Parquet file" in refusal(tmp_path / "folder")
    assert "no Parquet file" in refusal(tmp_path / "absent" / "*.parquet")
    assert "no Parquet file" in refusal(tmp_path / "absent")
    assert "cannot be read" in refusal("nosuchscheme://bucket/m")
    assert "do not end as Parquet" in refusal(tmp_path / "short.parquet")
    assert "do not end as Parquet" in refusal(tmp_path / "lying.parquet")
    assert "do not end as Parquet" in refusal(tmp_path / "folder" / "notes.txt")
    assert "encrypted" in refusal(tmp_path / "encrypted.parquet")
    assert "cannot be read" in refusal(tmp_path / "noise.parquet")
    assert "expected" in refusal("")
    with pytest.raises(ManifestRefused, match="limit is 0"):
        open_manifest(written(tmp_path / "m.parquet", table(1)), 0, (), ())


def test_damaged_pages(tmp_path: Path) -> None:
    """The footer is whole, the data is not."""
    whole = bytearray(Path(written(tmp_path / "m.parquet", table(500), compression="snappy")).read_bytes())
    whole[4:400] = b"\xff" * 396
    (tmp_path / "m.parquet").write_bytes(whole)
    assert "cannot be read" in refusal(tmp_path / "m.parquet")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    data = Path(written(tmp_path / "m.parquet", table(1, id=["abcdef"]), compression="none")).read_bytes()
    (tmp_path / "m.parquet").write_bytes(data.replace(b"abcdef", b"\xff\xfe\xfd\xff\xff\xff"))
    assert "cannot be read" in refusal(tmp_path / "m.parquet")


class Marked(pa.ExtensionType):
    """Leaves a mark when anybody rebuilds it from a file, as a code-carrying type would run its code."""

    woken = 0

    def __init__(self) -> None:
        super().__init__(pa.string(), "fovea.test.marked")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"payload"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> "Marked":
        cls.woken += 1
        return cls()


@pytest.mark.parametrize("place", ["id", "unread column", "nested", "metadata only"])
def test_extension_types_never_wake(tmp_path: Path, place: str) -> None:
    """Registered or not, wherever it stands, the type's code does not run."""
    pa.register_extension_type(Marked())
    try:
        marked = pa.ExtensionArray.from_storage(Marked(), pa.array(ROWS))
        if place == "metadata only":
            metadata = {"ARROW:extension:name": "fovea.test.marked", "ARROW:extension:metadata": "payload"}
            fields = [pa.field("id", pa.string(), metadata=metadata), pa.field("image_uri", pa.string())]
            content = pa.table([ROWS, ROWS], schema=pa.schema(fields))
        elif place == "nested":
            content = table(3, x=pa.StructArray.from_arrays([marked], names=["inner"]))
        else:
            content = table(3, **{"id" if place == "id" else "x": marked})
        path = written(tmp_path / "m.parquet", content)
        Marked.woken = 0
        assert "extension types" in refusal(path)
        assert Marked.woken == 0
        pq.ParquetFile(path).close()
        assert Marked.woken > 0  # the careless way does wake it
    finally:
        pa.unregister_extension_type("fovea.test.marked")


@pytest.mark.parametrize("shift", range(4))
def test_extension_types_hidden_behind_letters(tmp_path: Path, shift: int) -> None:
    """Stray base64 letters before the schema do not hide it."""
    schema = pa.schema([pa.field("id", pa.string(), metadata={"ARROW:extension:name": "x.y"})])
    hidden = "A" * shift + base64.b64encode(schema.serialize().to_pybytes()).decode()
    content = table(1).replace_schema_metadata({"note": hidden})
    assert "extension types" in refusal(written(tmp_path / "m.parquet", content))


@pytest.mark.parametrize("name", ["RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA", "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE"])
def test_unsafe_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = written(tmp_path / "m.parquet", table(1))
    for value in ("0", "false", ""):
        monkeypatch.setenv(name, value)
        refuse_unsafe_environment()
        open_all(path)
    for value in ("1", "true", "yes"):
        monkeypatch.setenv(name, value)
        assert name in refusal(path)


def several(folder: Path) -> Path:
    """Three files, written out of order: c 0-9, a 10-16, b 17-19; beside them what is not a part."""
    folder.mkdir(parents=True)
    written(folder / "c.parquet", table(10, 10), row_group_size=3)
    written(folder / "a.parquet", table(7, 0), row_group_size=2)
    (folder / "sub").mkdir()
    written(folder / "sub" / "d.parquet", table(3, 20), row_group_size=100)
    written(folder / "b.parquet", table(3, 7))
    written(folder / "_hidden.parquet", table(3))
    (folder / "_meta").mkdir()
    written(folder / "_meta" / "x.parquet", table(3))
    (folder / "notes.txt").write_text("x")
    return folder


def ids(manifest: Manifest, first: int, rows: int) -> list[str]:
    return [row.id for row in read_rows(manifest, first, rows)]


@pytest.mark.parametrize(
    ("uri", "files", "rows", "base"),
    [
        ("", ["a", "b", "c", "d"], 23, ""),
        ("/", ["a", "b", "c", "d"], 23, ""),
        ("/*.parquet", ["a", "b", "c"], 20, ""),
        ("/[ab].parquet", ["a", "b"], 10, ""),
        ("/**/*.parquet", ["a", "b", "c", "d"], 23, ""),
        ("/sub/*", ["d"], 3, "/sub"),
        ("/b.parquet", ["b"], 3, ""),
    ],
)
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_files_in_name_order(tmp_path: Path, uri: str, files: list[str], rows: int, base: str, prefix: str) -> None:
    folder = several(tmp_path / "in.put" / ".hidden")
    manifest = open_all(f"{prefix}{folder}{uri}")
    assert [Path(path).stem for path, _ in manifest.files] == files
    assert (manifest.rows, manifest.base, manifest.remote) == (rows, f"{folder}{base}", False)
    first = {"b": 7, "d": 20}.get(files[0], 0)
    assert ids(manifest, 0, rows) == [f"r{number}" for number in range(first, first + rows)]


def test_a_name_with_glob_letters(tmp_path: Path) -> None:
    assert open_all(written(tmp_path / "m[1]*.parquet", table(2))).rows == 2


def test_row_ranges_across_files_and_row_groups(tmp_path: Path) -> None:
    manifest = open_all(several(tmp_path / "m"))
    for first in range(manifest.rows):
        for rows in range(0, manifest.rows - first + 1, 2):
            found = read_rows(manifest, first, rows)
            assert [row.number for row in found] == list(range(first, first + rows))
            assert [row.id for row in found] == [f"r{number}" for number in range(first, first + rows)]
    for first, rows in ((-1, 2), (0, 24), (23, 1), (5, -1)):
        with pytest.raises(ManifestRefused, match="23"):
            read_rows(manifest, first, rows)


def test_large_row_groups_are_read_in_batches(tmp_path: Path) -> None:
    manifest = open_all(written(tmp_path / "m.parquet", table(20_000)))
    assert ids(manifest, 4090, 12) == [f"r{number}" for number in range(4090, 4102)]
    assert ids(manifest, 19_999, 1) == ["r19999"]


def test_limit(tmp_path: Path) -> None:
    """Files behind the limit are not even opened; the digest is that of the rows in front of it."""
    folder = several(tmp_path / "m")
    (folder / "z.parquet").write_bytes(b"broken")
    manifest = open_manifest(str(folder), 9, (), ())
    assert (manifest.rows, [rows for _, rows in manifest.files]) == (9, [7, 3])
    assert manifest.digest == open_all(written(tmp_path / "nine.parquet", table(9))).digest
    assert ids(manifest, 6, 3) == ["r6", "r7", "r8"]
    with pytest.raises(ManifestRefused, match="the manifest has 9"):
        read_rows(manifest, 8, 2)
    assert "cannot be read" in refusal(folder) or "do not end" in refusal(folder)


def test_repeated_id_across_files(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", table(10))
    written(tmp_path / "b.parquet", table(10, 9))
    assert "id 'r9' stands in rows 9 and 10" in refusal(tmp_path)
    assert open_manifest(str(tmp_path), 10, (), ()).rows == 10


def test_repeated_ids_are_seen_before_the_end(tmp_path: Path) -> None:
    """What follows the first 65,536 rows is not looked at any more: here it would be refused for another reason."""
    uri = written(tmp_path / "m.parquet", table(70_000, id=["a", "b"] * 34_000 + [None] * 2000))
    assert "id 'a' stands in rows 0 and 2" in refusal(uri)


def test_types_must_agree_between_files(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", table(2, extra=[1, 2]))
    written(tmp_path / "b.parquet", table(2, 2, extra=["1", "2"]))
    assert "string, expected int64" in refusal(tmp_path, passthrough=("extra",))
    assert open_all(tmp_path).rows == 4


def test_digest_is_of_contents(tmp_path: Path) -> None:
    """Layout, compression and columns nobody reads change nothing; every value that is read does."""
    content = table(30, page=pa.array([None, *range(29)], pa.int32()), question=["q"] * 30, extra=[{"a": [1.5, None]}] * 30)
    digest = open_all(written(tmp_path / "m.parquet", content), passthrough=("extra",)).digest
    for number, options in enumerate(
        [{"compression": "zstd"}, {"row_group_size": 7}, {"use_dictionary": False, "version": "1.0"}]
    ):
        assert open_all(written(tmp_path / f"{number}.parquet", content, **options), passthrough=("extra",)).digest == digest
    (tmp_path / "cut").mkdir()
    for number in range(3):
        written(tmp_path / "cut" / f"{number}.parquet", content.slice(number * 10, 10))
    assert open_all(tmp_path / "cut", passthrough=("extra",)).digest == digest
    more = content.append_column("unread", pa.array(range(30)))
    assert open_all(written(tmp_path / "more.parquet", more), passthrough=("extra",)).digest == digest
    others = {
        open_all(written(tmp_path / "x.parquet", changed), passthrough=names).digest
        for changed, names in [
            (content.set_column(0, "id", [[f"s{number}" for number in range(30)]]), ("extra",)),
            (content.set_column(1, "image_uri", [["x"] * 30]), ("extra",)),
            (content.set_column(2, "page", pa.array([0, *range(29)], pa.int32())), ("extra",)),
            (content.set_column(3, "question", [["p"] * 30]), ("extra",)),
            (content.set_column(4, "extra", pa.array([{"a": [1.5, 0.0]}] * 30)), ("extra",)),
            (content.take(list(range(29, -1, -1))), ("extra",)),
            (content.slice(0, 29), ("extra",)),
            (content, ()),
        ]
    }
    assert len(others | {digest}) == 9


def test_passthrough_keeps_types(tmp_path: Path) -> None:
    columns = {
        "count": pa.array([1, None], pa.int16()),
        "phrases": pa.array([["a", "b"], None], pa.list_(pa.string())),
        "when": pa.array([1, 2], pa.timestamp("ms", "UTC")),
        "raw": pa.array([b"\xff", b""]),
        "boxes": pa.array([[{"x0": 1.0}], []], pa.list_(pa.struct([("x0", pa.float32())]))),
    }
    manifest = open_all(written(tmp_path / "m.parquet", table(2, **columns)), passthrough=tuple(columns))
    assert manifest.passthrough.types == [column.type for column in columns.values()]
    rows = read_rows(manifest, 0, 2)
    for name, column in columns.items():
        assert [row.extra[name] for row in rows] == column.to_pylist()


def _ids_elsewhere(manifest: Manifest, sender: Any) -> None:
    sender.send(ids(manifest, 5, 4))


def test_manifest_travels_to_another_process(tmp_path: Path) -> None:
    manifest = open_all(several(tmp_path / "m"))
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_ids_elsewhere, args=(manifest, sender))
    process.start()
    sender.close()  # so that a process that dies without a word ends the wait
    assert receiver.recv() == ["r5", "r6", "r7", "r8"]
    process.join()
    process.close()
    receiver.close()


def test_memory_address() -> None:
    store = fsspec.filesystem("memory")
    with store.open("/manifests/a/m.parquet", "wb") as sink:
        pq.write_table(table(4), sink)
    for uri in ("memory://manifests/a", "memory://manifests/a/m.parquet", "memory://manifests/*/m.parquet"):
        manifest = open_all(uri)
        assert (manifest.rows, manifest.remote) == (4, True)
        assert manifest.base.rstrip("/") in ("memory:///manifests/a", "memory:///manifests")
        assert ids(manifest, 3, 1) == ["r3"]


def test_a_file_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    path = written(tmp_path / "m.parquet", table(9))
    manifest = open_all(path)
    written(tmp_path / "m.parquet", table(5))
    with pytest.raises(ManifestRefused, match="5 rows, expected at least 9"):
        read_rows(manifest, 0, 9)


def test_one_long_value_repeated_does_not_unfold(tmp_path: Path) -> None:
    """A few kilobytes of file that would be 40 GB as plain text."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), pa.array(["x" * 1_000_000]))
    path = written(tmp_path / "m.parquet", table(40_000, question=long))
    assert "1000000 bytes in column 'question'" in refusal(path)


@pytest.mark.parametrize(
    ("rows", "part_rows", "sizes"), [(0, 4, []), (1, 4, [1]), (4, 4, [4]), (9, 4, [4, 4, 1]), (3, 1, [1, 1, 1])]
)
def test_parts(rows: int, part_rows: int, sizes: list[int]) -> None:
    parts = cut_parts(rows, part_rows)
    assert [part.rows for part in parts] == sizes
    assert [part.first_row for part in parts] == [part_rows * number for number in range(len(sizes))]
    assert parts[-1:] == ([Part(len(sizes) - 1, part_rows * (len(sizes) - 1), sizes[-1])] if sizes else [])


def test_parts_need_rows() -> None:
    with pytest.raises(ValueError, match="part_rows is 0"):
        cut_parts(5, 0)
