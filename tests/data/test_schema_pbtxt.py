"""Contracts from and to TFX's schema.pbtxt."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from typing import Any

import pytest

from trilho.data.contract import ColumnRule, Contract, TableRule
from trilho.data.schema_pbtxt import contract_text, read_schema, write_schema
from trilho.data.text_proto import TextError, parse, write
from trilho.errors import DataError

INFERRED = r"""
# as TFDV writes it
feature {
  name: "trip_miles"
  type: FLOAT
  presence { min_fraction: 1.0 min_count: 1 }
  float_domain { min: 0.0 max: 1e3 }
  shape { dim { size: 1 } }
}
feature {
  name: "payment"
  value_count { min: 1 max: 1 }
  type: BYTES
  domain: "payment"
  presence: < min_count: 1 >
  distribution_constraints { min_domain_mass: 0.9 }
}
feature: {
  name: 'tips\'s'; type: INT,
  int_domain { min: -0x10 max: 007 is_categorical: true }
  not_in_environment: "SERVING"
}
feature { name: "ok" type: INT bool_domain { } presence { min_fraction: 0.5 } }
feature { name: "at" type: BYTES time_domain { string_format: "%Y" } }
feature { name: "old" type: BYTES lifecycle_stage: DEPRECATED }
feature { name: "image" type: FLOAT shape { dim { size: 28 } dim { size: 28 } } }
feature { name: "many" type: BYTES value_count { min: 0 } }
feature { name: "nested" type: STRUCT struct_domain { feature { name: "x" type: INT } } }
feature { name: "code" type: BYTES int_domain { } }
string_domain { name: "payment" value: "Cash" value: "Cr\303\251dito" value: "a" "b" }
sparse_feature { name: "s" }
dataset_constraints { min_examples_count: 500 }
[type.googleapis.com/x.Y] { z: [1, 2.5f, inf] }
"""


def test_what_tfdv_writes_is_read_as_a_contract() -> None:
    contract, left = read_schema(INFERRED)
    assert contract.table == TableRule(min_rows=500)
    assert contract.columns == {
        "trip_miles": ColumnRule(type="number", nullable=False, min=0, max=1000),
        "payment": ColumnRule(type="string", values=["Cash", "Crédito", "ab"]),
        "tips's": ColumnRule(type="integer", min=-16, max=7),
        "ok": ColumnRule(type="boolean"),
        "at": ColumnRule(type="timestamp"),
        "code": ColumnRule(type="integer"),
    }
    assert left == [
        "sparse features are not kept",
        "payment: not kept: how many values may lie outside of the domain",
        "tips's: not kept: the environments that it is not in",
        "ok: not kept: it must be there in 50% of the rows",
        "old is left out: its stage is DEPRECATED",
        "image is left out: it has several values in a row",
        "many is left out: it has several values in a row",
        "nested is left out: it has features of its own",
    ]


def test_a_contract_survives_the_way_to_tfx_and_back() -> None:
    contract = Contract(
        table=TableRule(min_rows=1000),
        columns={
            "temp c": ColumnRule(type="number", nullable=False, min=-40.5, max=50),
            "rides": ColumnRule(type="integer", min=0),
            "when": ColumnRule(type="timestamp", nullable=False),
            "holiday": ColumnRule(type="boolean", nullable=False),
            "side": ColumnRule(type="string", values=["left", 'the "other"', "a\\b\nc", "é"]),
            "any": ColumnRule(),
        },
    )
    text, left = write_schema(contract)
    assert left == []
    assert read_schema(text) == (contract, [])


def test_what_a_schema_has_no_word_for_is_told() -> None:
    rule = ColumnRule(type="integer", values=[0, 1, 7], min=0.5)
    table = TableRule(unique=["id"], freshness=timedelta(days=2))
    text, left = write_schema(Contract(table=table, columns={"n": rule}))
    assert left == [
        "columns.n.values: a schema lists texts only; smallest and largest are written",
        "table.unique: a schema has no word for it (id)",
        "table.freshness: a schema has no word for it",
    ]
    assert read_schema(text)[0].columns["n"] == ColumnRule(type="integer", min=1, max=7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('feature { name: "a"', "it ends where the name of a field is wanted"),
        ('feature {\n name "a" }', 'line 2: \'"a"\'; ":" or "{" is wanted'),
        ("feature { name: } }", "line 1: '}'; a value is wanted"),
        ("feature { type: INT }", "it has no feature with a name"),
        ("", "it has no feature with a name"),
        ("\x00\x01", "is no text form"),
        ("[table]\nmin_rows = 3", "is no text form"),
        ("f: [1 2]", 'line 1: \'2\'; "," or "]" is wanted'),
    ],
)
def test_another_text_is_refused_with_the_line(text: str, said: str) -> None:
    with pytest.raises(DataError, match="this is no schema") as error:
        read_schema(text)
    assert said in error.value.fact


def test_texts_are_written_so_that_they_are_read_again() -> None:
    message: dict[str, list[Any]] = {"name": ["\x00\t\"'\\ü😀\u2028"], "n": [1, -2.5], "m": [{"x": [{}]}]}
    assert parse(write(message)) == message
    with pytest.raises(TextError):
        parse("a: 'open")


def test_a_contract_is_written_as_toml_that_reads_the_same() -> None:
    contract = Contract(
        table=TableRule(min_rows=3, unique=["a", "b c"]),
        columns={
            'x "y"': ColumnRule(type="number", nullable=False, min=0.25, max=1e300),
            "z": ColumnRule(values=["\x01ü", 1, True]),
        },
    )
    assert Contract.model_validate(tomllib.loads(contract_text(contract, "what it is"))) == contract


MESSAGES = {
    "Schema": "*feature:Feature *string_domain:Strings dataset_constraints:Constraints",
    "Feature": "name:s type:Kind presence:Presence shape:Shape value_count:Range bool_domain:Bools time_domain:Time "
    "int_domain:Ints float_domain:Floats string_domain:Strings domain:s",
    "Presence": "min_fraction:d min_count:i", "Shape": "*dim:Dim", "Dim": "size:i", "Range": "min:i max:i",
    "Bools": "name:s", "Time": "string_format:s", "Ints": "name:s min:i max:i", "Floats": "name:s min:d max:d",
    "Strings": "name:s *value:s", "Constraints": "min_examples_count:i",
}  # fmt: skip
FIELDS = {"s": 9, "i": 3, "d": 1}


def official_message() -> Any:
    """Make the part of TensorFlow Metadata's Schema that is written here, for protobuf's own reader and writer."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="schema.proto", package="t", syntax="proto2")
    kind = file.enum_type.add(name="Kind")
    for number, name in enumerate(("TYPE_UNKNOWN", "BYTES", "INT", "FLOAT", "STRUCT")):
        kind.value.add(name=name, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, text in enumerate(fields.split(), 1):
            field, _, of = text.lstrip("*").partition(":")
            made: Any = message.field.add(name=field, number=number, label=3 if text.startswith("*") else 1)
            made.type = FIELDS.get(of, 14 if of == "Kind" else 11)
            if of not in FIELDS:
                made.type_name = f".t.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Schema"))()


def test_protobuf_itself_reads_what_is_written_and_writes_what_is_read() -> None:
    from google.protobuf import text_format

    contract = Contract(
        table=TableRule(min_rows=10),
        columns={
            "a": ColumnRule(type="number", min=-1e-7, max=2.5e20, nullable=False),
            "b": ColumnRule(type="integer", min=3),
            "c": ColumnRule(type="string", values=['x\n"y"', "ç\x01"]),
            "d": ColumnRule(type="timestamp"),
            "e": ColumnRule(type="boolean"),
        },
    )
    official = text_format.Parse(write_schema(contract)[0], official_message())
    assert [one.name for one in official.feature] == list("abcde")
    assert list(official.feature[2].string_domain.value) == ['x\n"y"', "ç\x01"]
    assert official.feature[0].float_domain.max == 2.5e20
    assert read_schema(text_format.MessageToString(official)) == (contract, [])


def test_what_no_schema_has_is_told_and_not_dropped_in_silence() -> None:
    contract, left = read_schema('feature { name: "x" type: FLOATY domain: "gone" }')
    assert contract.columns == {"x": ColumnRule()}
    assert left == [
        "x: not kept: its type FLOATY, which no schema has",
        "x: not kept: its domain 'gone', which is not in the schema",
    ]
