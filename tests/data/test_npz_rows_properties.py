"""Rows of any ``.npz`` are those that numpy reads."""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from optkit.data import npz_rows
from optkit.errors import DataError

DTYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    arrays.unicode_string_dtypes(endianness="?", max_len=4),
)
ARRAYS = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0)))
NAMES = st.text("abcxyz_é0", min_size=1, max_size=5)


@pytest.fixture(scope="module")
def path():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "data.npz"


def write(path, content, *, compressed, version):
    """Write an archive with the header's version and the order of each array as they are given."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, array in content.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=version)
            archive.writestr(f"{name}.npy", member.getvalue())


@given(
    st.dictionaries(NAMES, ARRAYS, max_size=3), st.sampled_from("CF"), st.booleans(), st.sampled_from([(1, 0), (2, 0)]),
    st.data(),
)  # fmt: skip
def test_rows_are_those_of_numpy(path, content, order, compressed, version, data):
    write(
        path,
        {name: np.asarray(array, order=order) for name, array in content.items()},
        compressed=compressed,
        version=version,
    )
    readers = npz_rows.open_npz(path)
    assert set(readers) == set(content)
    with np.load(path) as loaded:
        for name, reader in readers.items():
            expected = loaded[name]
            start = data.draw(st.integers(0, len(expected)))
            count = data.draw(st.integers(0, len(expected) - start))
            rows = reader.rows(start, count)
            assert reader.shape == expected.shape
            assert reader.ndim == expected.ndim
            assert rows.dtype.isnative
            assert rows.dtype == expected.dtype.newbyteorder("=")
            np.testing.assert_array_equal(rows, expected[start : start + count])


@given(arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=3), st.booleans())
def test_a_header_may_call_any_shape_column_major(path, shape, compressed):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape, order="F")
    member = io.BytesIO()
    header = {"descr": "<i2", "fortran_order": True, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    member.write(array.tobytes(order="F"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.writestr("x.npy", member.getvalue())
    np.testing.assert_array_equal(npz_rows.open_npz(path)["x"].rows(0, shape[0]), array)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_file_is_an_error_of_the_data_or_still_an_array(path, tail, place, byte):
    write(path, {"x": np.arange(12.0).reshape(4, 3)}, compressed=False, version=(1, 0))
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(bytes(content) + tail)
    try:
        for reader in npz_rows.open_npz(path).values():
            reader.rows(0, min(1, reader.shape[0]))
    except DataError as error:
        assert str(path) in error.message  # noqa: PT017  most damage is noticed, and some only changes a number
