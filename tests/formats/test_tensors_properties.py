"""Tensors read back as they are written; a made-up feed fits its signature."""

import keyword

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from optkit.errors import UsageError
from optkit.formats import tensors
from optkit.formats.tensors import Signature, TensorSpec

DIMS = st.integers(1, 10**6) | st.sampled_from(["batch", "length", "größe", "_1"])
NAMES = st.text(
    st.characters(exclude_characters="[]", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8
)
SPECS = st.builds(TensorSpec, NAMES, st.sampled_from(tensors.DTYPES), st.lists(DIMS, max_size=4).map(tuple))
SMALL = st.builds(
    TensorSpec, st.sampled_from("abc"), st.sampled_from(tensors.DTYPES),
    st.lists(st.integers(1, 3) | st.sampled_from(["batch", "length"]), max_size=3).map(tuple),
)  # fmt: skip


@given(SPECS)
def test_a_tensor_reads_back(spec):
    assert tensors.parse_input(str(spec)) == spec


@given(SPECS)
def test_spaces_say_nothing(spec):
    assert tensors.parse_input(str(spec).replace(",", " , ").replace("[", " [ ")) == spec


@given(st.lists(SPECS, min_size=1, max_size=4))
def test_several_tensors_read_back_unless_two_bear_one_name(specs):
    names = [spec.name for spec in specs]
    try:
        found = tensors.parse_inputs(map(str, specs))
    except UsageError as error:
        assert len(set(names)) < len(names)
        assert "more than once" in error.message  # noqa: PT017
    else:
        assert found == tuple(specs)


@given(st.text(max_size=12) | st.from_regex(r"\Ax:float32\[[\w²٣ ,.-]{0,6}\]\Z") | st.sampled_from(keyword.kwlist))
@example("x:float32[²]")
def test_any_text_is_a_tensor_or_a_usage_error(text):
    try:
        spec = tensors.parse_input(text)
    except UsageError as error:
        assert "--input" in error.message  # noqa: PT017  either is right, by the text
    else:
        assert tensors.parse_input(str(spec)) == spec
        assert all(dim > 0 for dim in spec.shape if isinstance(dim, int))


@given(st.lists(SMALL, min_size=1, max_size=3, unique_by=lambda spec: spec.name), st.integers(1, 4), st.integers(0, 9))
def test_a_made_up_feed_fits_its_signature_and_follows_from_its_seed(specs, batch, seed):
    feed = tensors.synthetic_feed(specs, batch=batch, size=5, seed=seed)
    tensors.check_feed(feed, specs, where="feed")
    again = tensors.synthetic_feed(specs, batch=batch, size=5, seed=seed)
    assert all(np.array_equal(feed[name], again[name]) for name in feed)


@given(st.lists(SMALL, min_size=1, max_size=3, unique_by=lambda spec: spec.name))
def test_a_signature_is_static_or_has_a_dynamic_dimension(specs):
    signature = Signature(tuple(specs))
    assert signature.static != any(isinstance(dim, str) for spec in specs for dim in spec.shape)
    assert signature.batch_dim is None or signature.fixed_batch is None
