"""Ranges of dynamic dimensions read back as they are written; any other text is a usage error."""

from hypothesis import given
from hypothesis import strategies as st

from optkit.errors import UsageError
from optkit.formats.tensors import Signature, TensorSpec
from optkit.targets.tensorrt import shape_profiles
from optkit.targets.tensorrt.shape_profiles import Range

SIZES = st.integers(1, 2**31 - 1)
RANGES = st.tuples(SIZES, SIZES, SIZES).map(lambda sizes: Range(*sorted(sizes)))
NAMES = st.text(min_size=1, max_size=6)


@given(st.dictionaries(NAMES, RANGES, max_size=4))
def test_ranges_read_back(ranges):
    assert shape_profiles.parsed([f"{name}={sizes}" for name, sizes in ranges.items()]) == ranges


@given(NAMES, SIZES)
def test_a_single_size_is_all_three(name, size):
    assert shape_profiles.parsed([f"{name}={size}"]) == {name: Range(size, size, size)}


@given(st.lists(st.text(st.sampled_from("ab=/0123²٣-+ ."), max_size=10) | st.text(max_size=5), max_size=3))
def test_any_text_is_a_range_that_grows_or_a_usage_error(texts):
    try:
        found = shape_profiles.parsed(texts)
    except UsageError as error:
        assert "--shapes" in error.message  # noqa: PT017  either is right, by the text
    else:
        assert all(0 < sizes.least <= sizes.usual <= sizes.most for sizes in found.values())


@given(st.lists(st.integers(1, 64) | st.sampled_from(["batch", "length"]), max_size=4), RANGES)
def test_every_dynamic_dimension_has_a_range(shape, sizes):
    signature = Signature((TensorSpec("x", "float32", tuple(shape)),))
    dynamic = {dim for dim in shape if isinstance(dim, str)}
    given_ranges = dict.fromkeys(dynamic & {"length"}, sizes)
    ranges, supposed = shape_profiles.of(signature, given_ranges)
    assert set(ranges) == dynamic
    assert set(supposed) == dynamic - {"length"}
    for shapes in shape_profiles.profile(signature, ranges).values():
        assert all(least <= usual <= most for least, usual, most in zip(*shapes.values(), strict=True))
