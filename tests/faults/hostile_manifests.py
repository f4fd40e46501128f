"""Parquet files that want to do harm: code in their schema, bombs in their pages, lies in their footer. All seeded."""

import base64
import io
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("question",)
PASSTHROUGH = ("extra",)
_EXTENSIONS = (
    "ray.data.arrow_tensor",
    "ray.data.arrow_tensor_v2",
    "ray.data.arrow_variable_shaped_tensor",
    "ray.data.arrow_pickled_object",
    "arrow.py_extension_type",
    "arrow.fixed_shape_tensor",
    "pandas.period",
)


@dataclass(frozen=True)
class HostileManifest:
    """`refused`: whether it must be; the others are odd, but may be worked on."""

    name: str
    data: bytes
    refused: bool = True


class Touch:
    """Unpickled, it makes the canary file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._canary,)


def hostile_manifests(canary: Path) -> Iterator[HostileManifest]:
    """All but the damaged ones. Whoever runs what some of them carry makes the file `canary`."""
    for name, data in chain(_carrying(canary), _disguised(canary), _encrypted(), _wrong_rows(), _bombs(), _liars()):
        yield HostileManifest(name, data)
    for name, data in _odd():
        yield HostileManifest(name, data, refused=False)


def alike_ids() -> bytes:
    """Ids like paths and commands, of letters that look alike, and in another case."""
    ids = ["../../etc/passwd", "/etc/passwd", "C:\\con", "CON", "a", "A", "\u0430", "x" * 4096, "${HOME}", "%00", "=1+1", "'; --"]
    return file_of(table(len(ids), id=ids))


def damaged_manifests(seed: int, count: int) -> Iterator[bytes]:
    """A sound file cut or with flipped bits, half of them in its footer."""
    whole = sound_manifest()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    draw = random.Random(seed)
    for number in range(count):
        data = bytearray(whole)
        if number % 10 == 9:
            yield bytes(data[: draw.randrange(len(data))])
            continue
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(footer if number % 2 else 0, len(data))
            data[place] ^= 1 << draw.randrange(8) if draw.random() < 0.5 else draw.randint(1, 255)
        yield bytes(data)


def sound_manifest(rows: int = 300) -> bytes:
    return file_of(table(rows, extra=[[{"x": 1.0}]] * rows), row_group_size=100)


def table(rows: int, **columns: Any) -> pa.Table:
    given: dict[str, Any] = {
        "id": [f"r{number}" for number in range(rows)],
        "image_uri": [f"{number}.png" for number in range(rows)],
        "question": ["what is it?"] * rows,
        "extra": [0] * rows,
    }
    return pa.table(given | columns)


def file_of(content: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(content, buffer, **options)
    return buffer.getvalue()


Files = Iterator[tuple[str, bytes]]


def _carrying(canary: Path) -> Files:
    """Extension types with a pickle in their metadata, in every place of a schema."""
    payload = pickle.dumps(Touch(canary))
    forms = {"raw": payload, "base64": base64.b64encode(payload), "json": b'{"payload": "' + base64.b64encode(payload) + b'"}'}
    for extension in _EXTENSIONS:
        for form, metadata in forms.items():
            marks = {b"ARROW:extension:name": extension.encode(), b"ARROW:extension:metadata": metadata}
            marked = pa.field("extra", pa.list_(pa.int64()), metadata=marks)
            yield f"{extension}, {form}", _with_field(marked, [[1]])
    marks = {b"ARROW:extension:name": b"ray.data.arrow_tensor", b"ARROW:extension:metadata": payload}
    inner = pa.field("inner", pa.list_(pa.int64()), metadata=marks)
    yield "extension in a struct", _with_field(pa.field("extra", pa.struct([inner])), [{"inner": [1]}])
    yield "extension in a list", _with_field(pa.field("extra", pa.list_(inner)), [[[1]]])
    yield "extension in a map", _with_field(pa.field("extra", pa.map_(pa.string(), inner)), [[("k", [1])]])
    deep: pa.Field = inner
    for _ in range(20):
        deep = pa.field("inner", pa.struct([deep]))
    value: Any = [1]
    for _ in range(21):
        value = {"inner": value}
    yield "extension 20 levels deep", _with_field(pa.field("extra", pa.struct([deep])), [value])
    yield "extension on a column nobody reads", _with_field(pa.field("unread", pa.list_(pa.int64()), metadata=marks), [[1]])
    yield "extension on the ids", file_of(_relabelled(pa.field("id", pa.string(), metadata=marks)))
    yield "a picture type", file_of(table(1, extra=pa.array([b"x" * 16], pa.uuid().storage_type).cast(pa.uuid())))


def _disguised(canary: Path) -> Files:
    """The same code in a schema whose base64 is broken up, as a lenient decoder would still read it."""
    marks = {b"ARROW:extension:name": b"ray.data.arrow_tensor", b"ARROW:extension:metadata": pickle.dumps(Touch(canary))}
    schema = table(1).schema.append(pa.field("more", pa.list_(pa.int64()), metadata=marks))
    text = base64.b64encode(schema.serialize().to_pybytes()).decode()
    forms = {
        f"every 36 letters {sign!r}": sign.join(text[at : at + 36] for at in range(0, len(text), 36)) for sign in "\n\t =.\0é"
    }
    forms |= {"for addresses": text.replace("+", "-").replace("/", "_"), "behind a letter": "A" + text, "twice": text * 2}
    for name, form in forms.items():
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, table(1).schema, store_schema=False) as writer:
            writer.write_table(table(1))
            writer.add_key_value_metadata({"ARROW:schema": form})
        yield f"schema in base64 {name}", buffer.getvalue()


def _with_field(field: pa.Field, values: list[Any]) -> bytes:
    content = table(1).drop_columns(["extra"] if field.name == "extra" else [])
    return file_of(content.append_column(field, pa.array(values, field.type)))


def _relabelled(field: pa.Field) -> pa.Table:
    content = table(1)
    return content.cast(content.schema.set(content.schema.get_field_index(field.name), field))


def _encrypted() -> Files:
    """Whole footers and single columns, with keys that only the writer has."""
    import pyarrow.parquet.encryption as pe

    class Kms(pe.KmsClient):  # type: ignore[misc]
        def __init__(self, connection: Any) -> None:
            super().__init__()

        def wrap_key(self, key: bytes, name: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, key: bytes, name: str) -> bytes:
            return base64.b64decode(key)

    url = "http://127.0.0.1:9/keys"  # kept in the file: a reader that asks there has been led
    factory = pe.CryptoFactory(lambda connection: Kms(connection))
    for plain in (False, True):
        settings = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["question"]}, plaintext_footer=plain)
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(kms_instance_url=url), settings)
        name = "encrypted column under a plain footer" if plain else "encrypted footer"
        yield name, file_of(table(3), encryption_properties=properties)


def _wrong_rows() -> Files:
    """Rows that no job can work on."""
    ids: dict[str, list[Any]] = {
        "null id": ["a", None], "empty id": ["a", ""], "id twice": ["a", "a"], "id with a newline": ["a", "b\n"],
        "id with NUL": ["a", "b\0"], "id with an escape": ["a", "\x1b[2J"], "id of 1 MB": ["a", "x" * (1 << 20)],
    }  # fmt: skip
    for name, values in ids.items():
        yield name, file_of(table(2, id=values))
    yield "ids as numbers", file_of(table(2, id=[1, 2]))
    yield "ids as bytes", file_of(table(2, id=[b"a", b"b"]))
    yield "pages as text", file_of(table(2, page=["1", "2"]))
    yield "no ids", file_of(table(2).drop_columns(["id"]))
    yield "no questions", file_of(table(2).drop_columns(["question"]))
    yield "null address", file_of(table(2, image_uri=["a", None]))
    yield "two columns of ids", file_of(pa.table([["a"], ["b"], ["c"]], names=["id", "id", "image_uri"]))
    yield (
        "ids that are no UTF-8",
        file_of(table(1, id=["abcdef"]), compression="none").replace(b"abcdef", b"\xff\xfe\xfd\xff\xff\xff"),
    )
    yield "no rows", file_of(table(0).cast(table(1).schema))


def _bombs() -> Files:
    """Kilobytes that unfold to gigabytes."""
    rows = 2_000_000
    yield "one id two million times", file_of(_repeated(rows, 1))
    yield "5,000 ids in turn, two million times", file_of(_repeated(rows, 5000))
    text = pa.array(["x" * 50_000_000])
    for column in ("id", "question", "extra"):
        plain = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
        whole = file_of(table(1, **{column: text}), **plain)
        yield f"50 MB of one letter as {column}", whole
        yield f"50 MB of one letter as {column}, denied", whole.replace(_number(50_000_034, 4), _number(34, 4))
    few = file_of(table(1, extra=[[0] * 1000]))
    footer = len(few) - 8 - int.from_bytes(few[-8:-4], "little")
    yield (
        "a list of 200 million zeros",
        few[:footer] + _framed(few[footer:-8].replace(_number(1000), _number(200_000_000, 5)))[4:],
    )


def _repeated(rows: int, different: int) -> pa.Table:
    names = pa.array([f"r{number}" for number in range(different)])
    turns = pa.array(range(different), pa.int32())
    indices = pa.concat_arrays([turns] * (rows // different)) if different > 1 else pa.repeat(pa.scalar(0, pa.int32()), rows)
    ids = pa.DictionaryArray.from_arrays(indices, names)
    zeros = pa.repeat(pa.scalar(0, pa.int32()), rows)
    same = pa.DictionaryArray.from_arrays(zeros, pa.array(["a.png"]))
    return pa.table({"id": ids, "image_uri": same, "question": same, "extra": zeros})


def _liars() -> Files:
    """Footers that do not say what the pages hold."""
    whole, footer = _hundred()
    true, more, fewer = _number(100), _number(8191), _number(65)
    yield "more rows everywhere", whole[:footer] + whole[footer:].replace(true, more)
    for name, lie in (("more", more), ("fewer", fewer)):
        yield f"{name} rows in the total", whole[:footer] + whole[footer:].replace(true, lie, 1)
    for name, length in (("4 GB", 2**32 - 1), ("no", 0), ("one byte of", 1), ("the whole file as", len(whole) - 12)):
        yield f"{name} footer", whole[:-8] + length.to_bytes(4, "little") + b"PAR1"
    for depth in (200, 100_000):
        yield f"a schema {depth} levels deep", _deep_schema(depth)
    yield (
        "a list of 2^60 row groups",
        _framed(b"\x15\x02\x19\x1c\x48\x01a\x15\x00\x00\x16\x00\x19\xfc" + b"\xff" * 8 + b"\x0f\x00"),
    )
    yield "structs that never end", _framed(b"\x1c" * 100_000)
    yield "nothing but ones", _framed(b"\xff" * 1000)


def _hundred() -> tuple[bytes, int]:
    """A file of 100 rows, and where its footer begins."""
    whole = file_of(table(100), compression="none", use_dictionary=False, write_statistics=False)
    return whole, len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")


def _number(value: int, size: int = 2) -> bytes:
    """A whole number as a footer writes it, in `size` bytes, longer than need be where it is small."""
    doubled = 2 * value
    pieces = [doubled >> 7 * place & 127 | 128 for place in range(size)]
    return bytes([*pieces[:-1], pieces[-1] & 127])


def _deep_schema(depth: int) -> bytes:
    """A chain of groups `a` of one child each, written in Thrift's compact protocol."""
    count = depth + 2
    size = bytes([count & 127 | 128, count >> 7 & 127 | 128, count >> 14])
    root, group, leaf = b"\x48\x01s\x15\x02\x00", b"\x35\x02\x18\x01a\x15\x02\x00", b"\x15\x02\x25\x02\x18\x01x\x00"
    return _framed(b"\x15\x02\x19\xfc" + size + root + group * depth + leaf + b"\x16\x00\x19\x0c\x00")


def _framed(footer: bytes) -> bytes:
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _odd() -> Files:
    """Nothing to refuse: names that a careless reader would stumble over, and footers whose word is all there is."""
    whole, footer = _hundred()
    yield "fewer rows everywhere", whole[:footer] + whole[footer:].replace(_number(100), _number(65))
    yield "two footers", whole + whole[footer:]
    yield "ids like paths, alike, and in another case", alike_ids()
    yield "addresses of every kind", file_of(table(3, image_uri=["file:///etc/passwd", "http://127.0.0.1/", "a\nb"]))
    yield "a note that looks like an extension", file_of(table(1).replace_schema_metadata({"note": "extension: none"}))
