"""A JSON Schema that cannot be kept is refused with its place."""

import json

import numpy as np
import pytest

from runners.engines.fake import make
from runners.generation.json_constraint import JsonConstraint
from runners.generation.json_schema import MAX_SCHEMA_CHARS, check_schema
from turnout.errors import InvalidRequest
from turnout.types import JsonFormat

NESTED = {"type": "array", "items": {"type": "string", "minLength": -1}}
SHARED = {
    "properties": {"fine": {"type": "string"}, "b": {"$ref": "#/$defs/x"}},
    "$defs": {"x": {"anyOf": [{"type": "integer"}, {"type": "flo"}]}},
}
ROUND = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"not": {}}]}}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "schema: Invalid type: objekt"),
        ({"properties": {"a": NESTED}}, r"schema\.properties\.a\.items: Expected positive"),
        ({"properties": {"a": {"not": {}}}}, r"schema\.properties\.a: Unimplemented keys"),
        ({"items": {"pattern": "(", "type": "string"}}, r"items: error: unclosed group"),
        (SHARED, r"schema\.\$defs\.x\.anyOf\.1: Invalid type: flo"),
        (ROUND, "Unimplemented keys"),
        ({"$ref": "#/nowhere"}, "Pointer '/nowhere' does not exist"),
        ({"properties": 3}, "properties must be an object"),
        ({"required": ["a"], "additionalProperties": False, "type": "object"}, "Unsatisfiable"),
        ({"description": "x" * MAX_SCHEMA_CHARS}, "characters; at most"),
        ([], "must be an object"),
    ],
)
def test_what_is_wrong_and_where(schema, says):
    with pytest.raises(InvalidRequest, match=says) as refused:
        check_schema(json.dumps(schema))
    assert str(refused.value.param).startswith("response_format.json_schema.schema")


def test_a_schema_that_can_be_kept_passes():
    check_schema(json.dumps({"type": "object", "properties": {"a": {"$ref": "#"}}}))


def test_white_space_ends():
    from turnout.catalog import Model

    runner = make("m", Model.model_validate({"task": "chat", "runner": {"engine": "fake"}}))
    runner.load()
    vocabulary = runner._loaded().tokenizer.vocabulary()
    constraint = JsonConstraint(vocabulary, JsonFormat())
    likes_spaces = np.zeros(vocabulary.vocab_size, np.float32)
    likes_spaces[[*b" \n"]] = 9
    likes_spaces[[*b"}"]] = 1
    written = []
    while not written or not constraint.accept(written[-1]):
        written.append(int(constraint.allowed(likes_spaces).argmax()))
    assert json.loads(bytes(written)) == {}
