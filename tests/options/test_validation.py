"""pydantic's errors as one line for the user."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from optkit.options import validation


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sparsity: float = Field(0.5, gt=0, lt=1)
    rounds: int = 1

    @model_validator(mode="after")
    def _fits(self):
        if self.rounds == 13:
            raise ValueError("rounds is unlucky")
        return self


class Outer(BaseModel):
    stages: list[Inner]


def raised(kind, content):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(content)
    return caught.value


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"stages": [{"sparsity": 2.0}]}, "stages[0].sparsity should be less than 1, not 2.0"),
        ({"stages": [{"sparsity": "much"}]}, "stages[0].sparsity should be a valid number, not 'much'"),
        ({"stages": [{"sparity": 0.5}]}, "unknown key 'stages[0].sparity'"),
        ({"stages": [{"rounds": 13}]}, "stages[0]: rounds is unlucky"),
        ({}, "the key 'stages' is missing"),
    ],
)
def test_the_first_complaint_is_one_line_with_its_place(content, line):
    assert validation.first_error(raised(Outer, content)) == line


def test_a_complaint_about_the_whole_names_no_place():
    assert validation.first_error(raised(Inner, {"rounds": 13})) == "rounds is unlucky"


def test_long_values_are_cut():
    line = validation.first_error(raised(Inner, {"sparsity": "x" * 500}))
    assert line.endswith("xxx...")
    assert len(line) < 120
