"""JSON schemas of recipes and of all records, published as files beside this module.

``python -m optkit.schemas`` writes them anew from the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optkit.formats.bundle_manifest import Manifest
from optkit.records.comparison import Comparison, Evaluation
from optkit.records.explanation import Explanation
from optkit.records.gate import Gate
from optkit.records.machine import Doctor
from optkit.records.model import Inspection
from optkit.records.record import Root
from optkit.records.run import Cache, Plan, Run, Transformation
from optkit.runs.recipe import Recipe
from optkit.stages.stage import STAGES, stage_class

FOLDER = Path(__file__).parent
RECORDS: dict[str, type[Root]] = {
    "bundle": Manifest,
    "cache": Cache,
    "comparison": Comparison,
    "doctor": Doctor,
    "evaluation": Evaluation,
    "explanation": Explanation,
    "gate": Gate,
    "inspection": Inspection,
    "plan": Plan,
    "run": Run,
    "transformation": Transformation,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def texts() -> dict[str, str]:
    """Return every schema as JSON text, by its file's name."""
    schemas = {"recipe": recipe_schema()} | {name: _record_schema(record) for name, record in RECORDS.items()}
    return {f"{name}.schema.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe, each stage with its own keys."""
    schema = Recipe.model_json_schema(mode="validation")
    definitions = schema.setdefault("$defs", {})
    for name in STAGES:
        own = stage_class(name).model_json_schema(mode="validation")
        definitions |= own.pop("$defs", {})
        definitions[name] = own
    schema["properties"]["stages"]["items"] = {"anyOf": [{"enum": list(STAGES)}, *map(_stage, STAGES)]}
    _lift_descriptions(schema)
    return {"$schema": _DIALECT, **schema}


def _lift_descriptions(schema: Any) -> None:
    """Give a property that may be null the description of its other type, where editors look for it."""
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _lift_descriptions(value)
    for each in schema.get("properties", {}).values() if isinstance(schema, dict) else ():
        described = [kind.pop("description") for kind in each.get("anyOf", ()) if "description" in kind]
        if described and "description" not in each:
            each["description"] = described[0]


def _stage(name: str) -> dict[str, Any]:
    """Return the schema of one stage's name with its fields."""
    fields = {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}], "description": f"The fields of {name}."}
    return {"type": "object", "properties": {name: fields}, "required": [name], "additionalProperties": False}


def _record_schema(record: type[Root]) -> dict[str, Any]:
    """Return the schema of a record as it is written."""
    return {"$schema": _DIALECT, **record.model_json_schema(mode="serialization", by_alias=True)}
