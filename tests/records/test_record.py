"""The contract of a record, over all that are defined; each root record is read from its saved file."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from optkit import records
from optkit.records.record import Record, Root
from optkit.schemas.published import RECORDS

SAVED = Path(__file__).parents[1] / "saved"
FILES = sorted(
    [*SAVED.glob("*/records/*.json"), *SAVED.glob("*/runs/*/record.json"), *SAVED.glob("*/bundles/*/*.json")]
)
MODULES = [
    importlib.import_module(f"optkit.records.{module.name}") for module in pkgutil.iter_modules(records.__path__)
]


def below(kind):
    """All classes derived from ``kind``."""
    return [each for child in kind.__subclasses__() for each in (child, *below(child))]


HERE = {module.__name__ for module in MODULES} | {each.__module__ for each in RECORDS.values()}
KINDS = sorted({each for each in below(Record) if each.__module__ in HERE} - {Root}, key=lambda each: each.__name__)


@pytest.fixture(params=FILES, ids=lambda path: path.relative_to(SAVED).as_posix())
def saved(request):
    """A root record with the text that it was read from."""
    text = request.param.read_text()
    return RECORDS[json.loads(text)["schema"].partition("/")[0].removeprefix("optkit.")].model_validate_json(text), text


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
def test_a_record_is_frozen_strict_about_keys_and_documented(kind):
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    assert kind.__doc__
    assert all(field.description for field in kind.model_fields.values()), kind.__name__


@pytest.mark.parametrize("kind", [each for each in KINDS if issubclass(each, Root)], ids=lambda each: each.__name__)
def test_a_root_record_names_its_schema(kind):
    field = kind.model_fields["schema_"]
    assert field.alias == "schema"
    assert re.fullmatch(r"optkit\.\w+/\d+", field.default)


def test_a_root_record_survives_json(saved):
    record, _ = saved
    again = type(record).model_validate_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()
    assert json.loads(record.to_json())["schema"] == type(record).model_fields["schema_"].default


def test_a_root_record_cannot_be_changed_and_takes_no_other_key(saved):
    record, text = saved
    with pytest.raises(ValidationError, match="frozen"):
        record.schema_ = "another"
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(record).model_validate(json.loads(text) | {"nonsense": 1})
    with pytest.raises(ValidationError, match="schema"):
        type(record).model_validate(json.loads(text) | {"schema": "optkit.another/1"})


def test_every_published_root_record_has_a_saved_file():
    found = {json.loads(path.read_text())["schema"].partition("/")[0].removeprefix("optkit.") for path in FILES}
    assert RECORDS.keys() - found <= {"cache"}, "saved/make.py writes them; the listing of the store is never read back"
