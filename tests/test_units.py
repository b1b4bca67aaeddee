"""Numbers as text, and text as numbers."""

from datetime import datetime, timedelta, timezone

import pytest

from optkit import units


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.000573, 0.00057, 0.000581, "573 us (570 to 581)"),
        (0.00123, 0.0012, 0.0125, "1.23 ms (1.20 to 12.50)"),
        (1.5, 0.9, 2.25, "1.50 s (0.90 to 2.25)"),
        (150.0, 100.0, 200.0, "2 min 30 s (100 s to 3 min 20 s)"),
    ],
)
def test_a_time_with_its_interval_is_in_one_unit(value, low, high, text):
    assert units.seconds_interval(value, low, high) == text


@pytest.mark.parametrize(("value", "text"), [(43, "50"), (40, "40"), (0.31, "0.4"), (1000, "1000"), (1001, "2000")])
def test_a_rough_number_is_rounded_up(value, text):
    assert units.one_digit(value) == text


def test_a_timestamp_is_in_utc_whatever_the_zone():
    noon = datetime(2026, 1, 31, 12, 0, 0, 987_654, tzinfo=timezone(timedelta(hours=2)))
    assert units.timestamp(noon) == "2026-01-31T10:00:00Z"


def test_a_rate_with_its_interval():
    assert units.rate_interval(4728.1, 4600.0, 48.2) == "4728 (4600 to 48.2)"


def test_a_long_list_names_the_first_and_counts_the_others():
    assert units.listed(["a", "b", "c"]) == "a, b, c"
    assert units.listed(list("abcdefg")) == "a, b, c and 4 more"
    assert units.listed(list("abc"), 1) == "a and 2 more"
    assert units.listed(list("abcd"), 2, separator="; ") == "a; b and 2 more"


def test_a_long_text_ends_at_a_word():
    assert units.shortened("one two three", 13) == "one two three"
    assert units.shortened("one two three four", 13) == "one two..."
    assert units.shortened("x" * 20, 10) == "xxxxxxx..."


@pytest.mark.parametrize(("seconds", "text"), [(600.0, "10m"), (90.0, "90s"), (0.02, "0.02s"), (3600.0, "60m")])
def test_a_duration_reads_back_equal(seconds, text):
    assert units.duration(seconds) == text
    assert units.parse_seconds(text) == seconds
