"""Numbers as text: the only place where seconds, bytes and ratios are formatted."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

UNKNOWN = "-"
_SECONDS = {"us": 1e6, "ms": 1e3, "s": 1.0}
_MINUTES = 120.0
"""Seconds from which on a time is shown in minutes."""


def seconds(value: float | None) -> str:
    """Format seconds: ``0.00123`` as ``1.23 ms``."""
    if value is None:
        return UNKNOWN
    for limit, unit in ((1e-3, "us"), (1.0, "ms"), (_MINUTES, "s")):
        if value < limit:
            return f"{_three_digits(value * _SECONDS[unit])} {unit}"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def seconds_interval(value: float, low: float, high: float) -> str:
    """Format seconds with their interval: ``0.573 ms (0.570 to 0.581)``, all in the value's unit, with its digits."""
    if value >= _MINUTES:
        return f"{seconds(value)} ({seconds(low)} to {seconds(high)})"
    text, unit = seconds(value).split()
    digits = len(text.partition(".")[2])
    ends = (f"{end * _SECONDS[unit]:.{digits}f}" for end in (low, high))
    return f"{text} {unit} ({' to '.join(ends)})"


def timestamp(moment: datetime.datetime) -> str:
    """Format an aware time as ISO 8601 in UTC, to the second: ``2026-01-31T12:00:00Z``."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def size(value: float | None) -> str:
    """Format bytes: ``1234567`` as ``1.23 MB`` (powers of 1000)."""
    if value is None:
        return UNKNOWN
    number = float(value)
    for unit in ("B", "kB", "MB"):
        if abs(number) < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{_three_digits(number)} {unit}"
        number /= 1000
    return f"{_three_digits(number)} GB"


def ratio(value: float | None) -> str:
    """Format a ratio: ``1.9234`` as ``1.92x``."""
    return UNKNOWN if value is None else f"{value:.2f}x"


def interval(low: float, high: float) -> str:
    """Format the interval of a ratio: ``1.87 to 1.96``."""
    return f"{low:.2f} to {high:.2f}"


def ratio_interval(value: float, low: float, high: float) -> str:
    """Format a ratio with its interval: ``1.92x (1.87 to 1.96)``."""
    return f"{ratio(value)} ({interval(low, high)})"


def quality_interval(value: float, low: float, high: float) -> str:
    """Format a metric's value with its interval: ``0.9312 (0.9101 to 0.9502)``."""
    return f"{quality(value)} ({quality(low)} to {quality(high)})"


def quality(value: float | None) -> str:
    """Format a metric's value with four digits behind the point: ``0.9312``."""
    return UNKNOWN if value is None else f"{value:.4f}"


def rate_interval(value: float, low: float, high: float) -> str:
    """Format samples or queries per second with their interval: ``4728 (4600 to 4864)``."""
    return f"{_three_digits(value)} ({_three_digits(low)} to {_three_digits(high)})"


def rate(value: float | None) -> str:
    """Format samples or queries per second: ``4728/s``."""
    return UNKNOWN if value is None else f"{_three_digits(value)}/s"


def one_digit(value: float) -> str:
    """Round a number above 0 up to its first digit and format it: ``43`` as ``50``."""
    step = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(round(value / step, 9)) * step:g}"


def count(value: int | None) -> str:
    """Format a count: ``23500000`` as ``23,500,000``."""
    return UNKNOWN if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """Format a share of one: ``0.25`` as ``25.0 %``."""
    return UNKNOWN if value is None else f"{value * 100:.1f} %"


def small_percent(value: float) -> str:
    """Format a tiny share of one with three digits: ``0.000312`` as ``0.0312 %``."""
    return f"{value * 100:.3g} %"


def p_value(value: float) -> str:
    """Format a p-value: ``p = 0.042``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def listed(items: Sequence[str], shown: int = 3, *, separator: str = ", ") -> str:
    """Name the first items and count the others: ``a, b, c and 4 more``."""
    left = len(items) - shown
    return separator.join(items[:shown]) + (f" and {count(left)} more" if left > 0 else "")


def shortened(text: str, longest: int) -> str:
    """Cut a text to ``longest`` characters at the end of a word: ``the shapes of...``."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 2].rpartition(' ')[0].rstrip(' ,;:') or text[: longest - 3]}..."


def duration(value: float) -> str:
    """``600.0`` -> ``10m``; ``parse_seconds`` reads it back."""
    return f"{value / 60:g}m" if value >= 60 and value % 60 == 0 else f"{value:g}s"


def parse_seconds(text: object) -> float:
    """Parse a time into seconds: ``20ms`` is 0.02, a bare number is seconds. Raises ValueError."""
    factors = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
    return _parsed(text, factors, "a time, for example 20ms")


def parse_bytes(text: object) -> int:
    """Parse a size into bytes: ``500MB`` is 500,000,000 (powers of 1000), a bare number is bytes. Raises ValueError."""
    return round(_parsed(text, {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}, "a size, for example 500MB"))


def _parsed(text: object, factors: dict[str, float], what: str) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _finite(text, text, what)
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not {what}")  # noqa: TRY004  what pydantic turns into a line for the user
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzBGKM ")
    unit = text.strip().removeprefix(number).strip()
    try:
        value = float(number) * (factors[unit] if unit else 1.0)
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is not {what}; units: {', '.join(factors)}") from None
    return _finite(value, text, what)


def _finite(value: float, text: object, what: str) -> float:
    try:
        if math.isfinite(value):
            return value
    except OverflowError:  # an integer that no float holds
        pass
    raise ValueError(f"{text!r} is not {what}: no finite number")


def _three_digits(value: float) -> str:
    magnitude = abs(float(f"{value:.3g}"))
    digits = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2
    return f"{value:.{digits}f}"
