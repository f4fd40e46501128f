"""Which columns of a manifest are read, and what type each must have."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from ray_pipeline.intake.manifest_refused import ManifestRefused
from schemas.result import RESULT_COLUMNS

TEXT = ("id", "image_uri", "question")
NUMBER = ("page",)
LIST_OF_TEXT = ("phrases",)
OWN = ("id", "image_uri", "page", "question", "phrases")
_ALWAYS = ("id", "image_uri")
_INSTEAD = {"phrases": ", or phrases for all rows in the setting label.phrases"}  # what else there is than a column


@dataclass(frozen=True)
class Columns:
    """`own`: those of OWN that the manifest has. `passthrough`: fields to copy, dictionary encoding undone."""

    own: tuple[str, ...]
    passthrough: pa.Schema

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys((*self.own, *self.passthrough.names)))


def chosen_columns(schema: pa.Schema, needs: Iterable[str], passthrough: Iterable[str], shown: str) -> Columns:
    """What to read of a file with this schema.

    Raises:
        ManifestRefused: a column is missing, of the wrong type, holds an extension type, or clashes with a result column.
    """
    passthrough = tuple(passthrough)
    _refuse_clashes(passthrough)
    for name in dict.fromkeys((*_ALWAYS, *needs, *passthrough)):
        if name not in schema.names:
            beside = f"expected it beside {', '.join(schema.names[:20])}{_INSTEAD.get(name, '')}"
            raise ManifestRefused(f"{shown}: no column {name!r}, {beside}")
    own = tuple(name for name in OWN if name in schema.names)
    for name in dict.fromkeys((*own, *needs, *passthrough)):
        _refuse_type(_only_field(schema, name, shown), shown)
    return Columns(own, pa.schema([pa.field(name, plain(schema.field(name).type)) for name in passthrough]))


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values: dictionary encoding and the wide or view forms of text are a matter of storage."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if is_list_of_text(kind) and pa.types.is_dictionary(kind.value_type):
        values = kind.value_field.with_type(kind.value_type.value_type)
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(values, kind.list_size)
        return pa.large_list(values) if pa.types.is_large_list(kind) else pa.list_(values)
    return pa.string() if is_text(kind) else kind


def _refuse_clashes(passthrough: tuple[str, ...]) -> None:
    for name in passthrough:
        if name in RESULT_COLUMNS.names:
            raise ManifestRefused(f"passthrough column {name!r} clashes with the result column of that name")
        if passthrough.count(name) > 1:
            raise ManifestRefused(f"passthrough names column {name!r} {passthrough.count(name)} times, expected once")


def _only_field(schema: pa.Schema, name: str, shown: str) -> pa.Field:
    found = schema.get_all_field_indices(name)
    if len(found) != 1:
        raise ManifestRefused(f"{shown}: {len(found)} columns named {name!r}, expected one")
    return schema.field(found[0])


def _refuse_type(field: pa.Field, shown: str) -> None:
    if _has_extension(field):
        raise ManifestRefused(f"{shown}: column {field.name!r} is of an extension type, expected a plain type")
    kind = plain(field.type)
    if field.name in TEXT and not (pa.types.is_string(kind) or (field.name == "question" and pa.types.is_null(kind))):
        raise ManifestRefused(f"{shown}: column {field.name!r} is {field.type}, expected string")
    if field.name in LIST_OF_TEXT and not (is_list_of_text(kind) or pa.types.is_null(kind)):
        raise ManifestRefused(f"{shown}: column {field.name!r} is {field.type}, expected list<string>")
    if field.name in NUMBER and not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise ManifestRefused(f"{shown}: column {field.name!r} is {field.type}, expected int32")


def _has_extension(field: pa.Field) -> bool:
    kind = field.type
    if isinstance(kind, pa.BaseExtensionType) or any(key.startswith(b"ARROW:extension") for key in field.metadata or {}):
        return True
    if pa.types.is_dictionary(kind):
        return _has_extension(pa.field("values", kind.value_type))
    return any(_has_extension(kind.field(place)) for place in range(kind.num_fields))


def is_list_of_text(kind: pa.DataType) -> bool:
    """A list, of whatever form, whose values are text; dictionary encoding aside."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and bool(is_text(plain(kind.value_type)))


def is_text(kind: pa.DataType) -> bool:
    """Any of Arrow's text types."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
