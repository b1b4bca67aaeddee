"""The line of every key and item of any YAML file is the one that it stands in."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from optkit.errors import RecipeError
from optkit.system import yaml_lines

KEYS = st.text("abcdefgh_", min_size=1, max_size=5).filter(lambda key: key not in ("e", "_"))
SCALARS = st.integers(-99, 99) | st.booleans() | st.none() | KEYS.map(lambda text: f"value {text}") | st.floats(-9, 9)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(KEYS, inner, min_size=1, max_size=3),
)
MAPPINGS = st.dictionaries(KEYS, TREES, min_size=1, max_size=3)


@pytest.fixture(scope="module")
def path():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "file.yaml"


def lines_of(value, place=(), indent=0):
    """Write ``value`` in block style, a line for every key or item: pairs of a place and its line."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        head = " " * indent + (f"{key}:" if isinstance(value, dict) else "-")
        if isinstance(inner, dict | list):
            yield (*place, key), head
            yield from lines_of(inner, (*place, key), indent + 2)
        else:
            yield (*place, key), f"{head} {yaml.safe_dump(inner).splitlines()[0]}"


@given(MAPPINGS, st.lists(st.integers(0, 3), min_size=1))
def test_a_place_has_the_line_of_its_key(path, content, gaps):
    text, expected = "", {}
    for number, (place, line) in enumerate(lines_of(content)):
        text += "# a comment\n" * gaps[number % len(gaps)]
        expected[place] = text.count("\n") + 1
        text += f"{line}\n"
    path.write_text(text)
    document = yaml_lines.read(path, RecipeError)
    assert document.content == content
    for place, line in expected.items():
        at = document.lines[place]
        # An item that holds a list or a mapping begins in the line of its first entry.
        assert at == line or (isinstance(place[-1], int) and at == expected[_first(expected, place)])
        assert document.where((*place, "no such key")) == f"{path}:{at}"


def _first(expected, place):
    """The first place below ``place``, however deep, whose entry is a key or a plain item."""
    below = [each for each in expected if len(each) > len(place) and each[: len(place)] == place]
    return min(below, key=lambda each: expected[each]) if below else place


@given(MAPPINGS, st.booleans())
def test_content_is_what_yaml_says(path, content, flow):
    path.write_text(yaml.safe_dump(content, default_flow_style=flow))
    assert yaml_lines.read(path, RecipeError).content == content


@given(MAPPINGS, st.data())
def test_a_key_given_twice_is_told_with_both_lines(path, content, data):
    key = data.draw(st.sampled_from(list(content)))
    text = yaml.safe_dump(content)
    path.write_text(f"{text}{key}: again\n")
    first = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key}:"))
    with pytest.raises(RecipeError, match=f":{text.count(chr(10)) + 1}: .* given twice, first in line {first}"):
        yaml_lines.read(path, RecipeError)


@given(st.text(max_size=30) | st.text(st.sampled_from("{}[]:,&*!|>'\"#%- \n\tab1<?@`"), max_size=20))
@example("a: 0x_")
@example("a: \b")
def test_any_text_is_a_document_or_an_error_of_the_recipe(path, text):
    path.write_text(text, encoding="utf-8")
    try:
        document = yaml_lines.read(path, RecipeError)
    except RecipeError as error:
        assert path.name in error.message  # noqa: PT017  either is right, by the text
    else:
        assert document.where(("no", "such", 0)).startswith(f"{path}:")
