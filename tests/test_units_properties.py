"""Times and sizes read back as they were written; any other text is a ValueError."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optkit import units

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers()


@given(st.floats(1e-6, 119.0))
def test_a_time_reads_back_with_three_digits(value):
    assert units.parse_seconds(units.seconds(value)) == pytest.approx(value, rel=5e-3)


@given(st.integers(0, 10**13))
def test_a_size_reads_back_with_three_digits(value):
    assert units.parse_bytes(units.size(value)) == pytest.approx(value, rel=5e-3)


@given(st.integers(0, 10**6), st.sampled_from(["us", "ms", "s", "min", "m", "h"]), st.sampled_from(["", " ", "  "]))
def test_a_time_may_have_any_unit(number, unit, space):
    factor = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "m": 60, "h": 3600}[unit]
    assert units.parse_seconds(f"{space}{number}{space}{unit}{space}") == pytest.approx(number * factor)


@given(st.integers(0, 10**6), st.sampled_from(["", "B", "kB", "KB", "MB", "GB"]), st.sampled_from(["", " "]))
def test_a_size_may_have_any_unit(number, unit, space):
    factor = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    assert units.parse_bytes(f"{number}{space}{unit}") == number * factor


@given(st.floats(0, 1e-3), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_has_one_unit(value, below, above):
    text = units.seconds_interval(value, value * (1 - below), value * (1 + above))
    assert text.count("s") == 1
    assert text.endswith(")")


@given(st.text(st.sampled_from("0123456789.eE+-_ usmihnBkKMGinfa"), max_size=8) | st.text(max_size=4) | NUMBERS)
@example("1e400B")
@example(math.inf)
@example(10**400)
def test_any_other_text_is_a_value_error(text):
    for parse in (units.parse_seconds, units.parse_bytes):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert math.isfinite(value)


@given(st.none() | NUMBERS.filter(math.isfinite))
def test_any_number_can_be_shown(value):
    for show in (units.seconds, units.size, units.ratio, units.quality, units.rate, units.percent):
        assert "\n" not in show(value)
