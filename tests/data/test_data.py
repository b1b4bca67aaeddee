"""Datasets: reading them, refusing them, splitting them."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tokenizers
from PIL import Image

from optkit.data import dataset as datasets
from optkit.data import splits
from optkit.data.dataset import open_dataset
from optkit.errors import DataError, SignatureError
from optkit.formats.tensors import parse_inputs

X = parse_inputs(["x:float32[batch,3]"])


def rows(count, width=3, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype("float32")


def written(tmp_path, name="data.npz", save=np.savez, **arrays):
    save(tmp_path / name, **arrays)
    return tmp_path / name


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_sliced_along_the_sample_axis_and_carries_labels(tmp_path, save):
    x, labels = rows(5), np.arange(5)
    dataset = open_dataset(written(tmp_path, save=save, x=x, labels=labels), X)
    batches = list(dataset.batches(2))
    assert [batch.count for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([batch.feed["x"] for batch in batches]), x)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), labels)
    assert dataset.labelled
    dataset.check(X)


def test_a_column_major_array_and_a_foreign_byte_order_read_like_any_other(tmp_path):
    x = np.random.default_rng(0).standard_normal((7, 3, 4)).astype(">f4")
    dataset = open_dataset(written(tmp_path, x=np.asfortranarray(x)), parse_inputs(["x:float32[n,3,4]"]))
    read = np.concatenate([batch.feed["x"] for batch in dataset.batches()])
    np.testing.assert_array_equal(read, x)
    assert read.dtype == np.float32


def test_an_extra_leading_axis_holds_whole_feeds(tmp_path):
    dataset = open_dataset(written(tmp_path, x=rows(8).reshape(4, 2, 3), labels=np.arange(8).reshape(4, 2)), X)
    batches = list(dataset.batches(16))
    assert [batch.count for batch in batches] == [2, 2, 2, 2]
    assert batches[1].feed["x"].shape == (2, 3)
    assert batches[1].labels.tolist() == [2, 3]
    dataset.check(X)


def test_a_folder_of_npz_holds_feeds_of_any_size_in_the_order_of_names(tmp_path):
    for name, count in (("b", 2), ("a", 1), ("c", 5)):
        written(tmp_path, f"{name}.npz", x=rows(count), labels=np.zeros(count, int))
    dataset = open_dataset(tmp_path, X)
    assert [batch.count for batch in dataset.batches(4)] == [1, 2, 5]
    assert dataset.labelled
    dataset.check(X)


def test_the_last_batch_can_be_filled_up_for_a_model_of_a_fixed_batch_size(tmp_path):
    dataset = open_dataset(written(tmp_path, x=rows(5), labels=np.arange(5)), parse_inputs(["x:float32[4,3]"]))
    last = list(dataset.batches(4, pad=True))[-1]
    assert (last.feed["x"].shape, last.count, len(last.labels)) == ((4, 3), 1, 1)
    dataset.check(parse_inputs(["x:float32[4,3]"]))


# Refusals of .npz files


@pytest.mark.parametrize(
    ("arrays", "error", "message", "hint"),
    [
        ({"y": rows(4)}, SignatureError, "input 'x' of the model is missing; found y", "rename 'y' to 'x'"),
        ({"x": rows(4), "xx": rows(4)}, SignatureError, "the model has no input 'xx'", "did you mean 'x'"),
        ({"x": rows(4), "labels": np.arange(3)}, DataError, "3 labels for 4 samples in 'x'", None),
        (
            {"x": rows(4)[0]},
            SignatureError,
            r"array 'x' has rank 1 \(shape \[3\]\), not 2",
            "the model takes x:float32",
        ),
        ({"x": rows(0)}, DataError, "holds no samples", None),
        ({"x": np.array([object(), 1])}, DataError, "holds Python objects", "save it with a plain dtype"),
        ({"x": np.float32(1)}, DataError, "is a single value without a sample axis", "one row per sample"),
        ({}, DataError, "input 'x' of the model is missing|holds no arrays", None),
    ],
)
def test_an_npz_that_does_not_fit_is_refused_on_opening(tmp_path, arrays, error, message, hint):
    with pytest.raises((DataError, SignatureError), match=message) as caught:
        open_dataset(written(tmp_path, **arrays), X)
    assert isinstance(caught.value, error | SignatureError)
    assert str(tmp_path / "data.npz") in caught.value.message
    assert hint is None or hint in caught.value.hint


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (rows(4).astype("float64"), SignatureError, "sample 0: input 'x' has dtype float64, not float32"),
        (rows(4, width=5), SignatureError, "input 'x' has size 5 at axis 1, not 3"),
        (np.vstack([rows(2), [[0, np.nan, 0]]]).astype("float32"), DataError, "sample 2: input 'x' holds NaN"),
        (np.vstack([rows(1), [[0, np.inf, 0]]]).astype("float32"), DataError, "sample 1: input 'x' holds infinity"),
    ],
)
def test_check_names_the_file_the_sample_and_the_input(tmp_path, x, error, message):
    dataset = open_dataset(written(tmp_path, x=x), X)
    with pytest.raises(error, match=message):
        dataset.check(X)


def test_check_finds_the_sample_also_inside_a_fixed_batch(tmp_path):
    x = rows(7)
    x[6, 1] = np.nan
    with pytest.raises(DataError, match="sample 6: input 'x' holds NaN"):
        open_dataset(written(tmp_path, x=x)).check(parse_inputs(["x:float32[4,3]"]))


def test_check_can_look_at_the_first_samples_only(tmp_path):
    x = rows(7)
    x[6, 1] = np.nan
    open_dataset(written(tmp_path, x=x)).check(X, samples=6)


def test_a_label_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(DataError, match="sample 1: a label is NaN"):
        open_dataset(written(tmp_path, x=rows(2), labels=np.array([1.0, np.nan]))).check(X)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 but no archive", b"plain text"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable .npz archive"):
        open_dataset(tmp_path / "data.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_archive_is_refused(tmp_path, save):
    path = written(tmp_path, save=save, x=rows(1000))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"not a readable .npz archive"):
        open_dataset(path)


def test_an_array_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (10**13, 3), "fortran_order": False, "descr": "<f4"})
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(DataError, match=r"array 'x': claims shape \[10000000000000, 3\], and the file ends before"):
        open_dataset(tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("files", "given", "message", "hint"),
    [
        (["data.npz"], "date.npz", "date.npz: no such file or folder", "data.npz'?"),
        (["x.npy"], "x.npy", ".npy is no known form of data", "np.savez"),
        (["x.jsonl"], "x.jsonl", ".jsonl is no known form", "tokenizer: tokenizer.json"),
        (["make.py"], "make.py", ".py is no known form", "FILE.py:CALLABLE"),
        (["photos/cat/1.jpg"], "photos", "images need a description of their preprocessing", "path: photos"),
        (["empty/notes.txt"], "empty", "holds neither .npz files nor images", "a folder of .npz feeds"),
    ],
)
def test_what_is_no_data_is_answered_with_what_is(tmp_path, files, given, message, hint):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path / given)
    assert hint in caught.value.hint


def test_feeds_in_a_folder_either_all_have_labels_or_none(tmp_path):
    written(tmp_path, "a.npz", x=rows(1), labels=np.array([1]))
    written(tmp_path, "b.npz", x=rows(1))
    with pytest.raises(DataError, match=r"b.npz: has no labels, and a.npz has some"):
        open_dataset(tmp_path, X).check(X)


# Splitting


def test_a_split_shares_no_sample_and_loses_none(tmp_path):
    dataset = open_dataset(written(tmp_path, x=rows(20)))
    calibration, evaluation = splits.split(dataset, calibration_samples=8)
    assert (len(calibration), calibration.part) == (8, "calibration")
    assert (len(evaluation), evaluation.part) == (12, "evaluation")
    assert sorted([*calibration.indices, *evaluation.indices]) == list(range(20))
    splits.check_disjoint(calibration, evaluation)


def test_a_split_never_calibrates_on_more_than_half(tmp_path):
    calibration, evaluation = splits.split(open_dataset(written(tmp_path, x=rows(9))), calibration_samples=300)
    assert (len(calibration), len(evaluation)) == (4, 5)


def test_a_split_follows_content_and_seed_and_not_the_order_of_samples(tmp_path):
    x = rows(20)
    parts = [
        splits.split(open_dataset(written(tmp_path, f"{name}.npz", x=each)), seed=seed)[0]
        for name, each, seed in (("a", x, 0), ("b", x[::-1], 0), ("c", x, 1))
    ]
    assert parts[0].digest == parts[1].digest != parts[2].digest


def test_equal_samples_fall_into_the_same_part(tmp_path):
    x = np.repeat(rows(5), 4, axis=0)
    for seed in range(5):
        calibration, evaluation = splits.split(open_dataset(written(tmp_path, x=x)), seed=seed)
        splits.check_disjoint(calibration, evaluation)
        assert len(calibration) == 8


@pytest.mark.parametrize(
    ("x", "message"), [(rows(1), "1 given, 1 different"), (np.zeros((9, 3)), "9 given, 1 different")]
)
def test_too_few_samples_cannot_be_split(tmp_path, x, message):
    with pytest.raises(DataError, match=f"too few samples to split: {message}, at least 2 needed"):
        splits.split(open_dataset(written(tmp_path, x=x)))


def test_sets_that_share_samples_are_told_how_many(tmp_path):
    x = rows(10)
    first = open_dataset(written(tmp_path, "a.npz", x=x[:6]))
    second = open_dataset(written(tmp_path, "b.npz", save=np.savez_compressed, x=x[4:]))
    with pytest.raises(DataError, match=r"share 2 of 6 evaluation samples; the first is .*b.npz, sample 0"):
        splits.check_disjoint(first, second)


def test_the_digest_is_of_content_and_labels(tmp_path):
    x = rows(4)
    digests = [
        open_dataset(written(tmp_path, f"{number}.npz", save=save, x=each, labels=labels)).digest
        for number, (save, each, labels) in enumerate(
            [
                (np.savez, x, np.arange(4)),
                (np.savez_compressed, x, np.arange(4)),
                (np.savez, x, np.array([0, 1, 2, 9])),
                (np.savez, x + 1, np.arange(4)),
            ]
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_take_spreads_its_samples_over_data_sorted_by_class(tmp_path):
    dataset = open_dataset(written(tmp_path, x=rows(9))).take(3)
    assert [batch.feed["x"].tolist() for batch in dataset.batches()] == [rows(9)[[at]].tolist() for at in (0, 3, 6)]
    assert len(dataset.take(10)) == 3


MEMORY = """
import resource, sys
from optkit.data.dataset import open_dataset
dataset = open_dataset(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for batch in dataset.batches(8): pass
dataset.digest
print(len(dataset), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_size_of_the_file(tmp_path, save):
    path = written(tmp_path, save=save, x=np.zeros((2000, 16384), "float32"))  # 131 MB
    code = [sys.executable, "-c", MEMORY, str(path)]
    count, grown = subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) == 2000
    assert int(grown) < 8_000  # kilobytes


# FILE.py:CALLABLE


def code(tmp_path, body):
    (tmp_path / "make.py").write_text("import numpy as np\n\ndef feeds():\n    " + body.replace("\n", "\n    ") + "\n")
    return f"{tmp_path / 'make.py'}:feeds"


def test_user_code_yields_feeds_of_any_size(tmp_path):
    body = "for n in (1, 3):\n    yield {'x': np.full((n, 3), n, 'float32')}, np.arange(n)"
    dataset = open_dataset(code(tmp_path, body), X)
    batches = list(dataset.batches(8))
    assert [batch.count for batch in batches] == [1, 3]
    assert batches[1].labels.tolist() == [0, 1, 2]
    dataset.check(X)


def test_user_code_may_leave_the_sample_axis_out_and_samples_are_joined(tmp_path):
    body = "for n in range(5):\n    yield {'x': np.full(3, n, 'float32')}, n"
    dataset = open_dataset(code(tmp_path, body), X)
    batches = list(dataset.batches(2))
    assert [batch.feed["x"].shape for batch in batches] == [(2, 3), (2, 3), (1, 3)]
    assert batches[1].labels.tolist() == [2, 3]
    assert len(splits.split(dataset)[0]) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield {'x': np.zeros((1, 3))}\n1 / 0", r"ZeroDivisionError: division by zero \(make.py:5\)"),
        ("return 3", "returns int, which yields no feeds"),
        ("yield [1, 2]", "feed 0: is list, not a feed by input names"),
        ("yield {'y': np.zeros((1, 3))}", "feed 0: input 'x' of the model is missing"),
        ("yield {'x': object()}", "feed 0, input 'x': object cannot be converted to an array of numbers"),
        ("yield {'x': np.zeros((2, 3))}, [1]", "feed 0: 1 labels for 2 samples"),
        ("yield {'x': np.zeros((1, 3))}, 1\nyield {'x': np.zeros((1, 3))}", "feed 1: has no label, and feed 0 has one"),
        ("if False: yield", "holds no samples"),
    ],
)
def test_what_goes_wrong_in_user_code_is_one_line(tmp_path, body, message):
    with pytest.raises((DataError, SignatureError), match=message) as caught:
        open_dataset(code(tmp_path, body), X)
    assert "make.py:feeds" in caught.value.message


# Images

PICTURE = parse_inputs(["image:float32[batch,3,4,4]"])


def picture(path, color, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def described(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    return tmp_path / "data.yaml"


def test_images_become_inputs_and_their_folders_labels(tmp_path):
    picture(tmp_path / "photos/cat/a.png", (255, 0, 51))
    picture(tmp_path / "photos/dog/b.png", (0, 0, 0))
    yaml = described(tmp_path, "path: photos\nimages: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}")
    dataset = open_dataset(yaml, PICTURE)
    dataset.check(PICTURE)
    (batch,) = dataset.batches(2)
    assert batch.labels.tolist() == [0, 1]
    np.testing.assert_allclose(batch.feed["image"][0, :, 0, 0], [1.0, -1.0, -0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("block", "input", "expected"),
    [
        ("{color: BGR}", "x:float32[n,3,4,4]", [0.2, 0.0, 1.0]),
        ("{scale: 1, mean: 127, std: 128}", "x:float32[n,3,4,4]", [1.0, -127 / 128, -76 / 128]),
        ("{layout: NHWC}", "x:float32[n,4,4,3]", [1.0, 0.0, 0.2]),
        ("{size: 4}", "x:uint8[n,3,h,w]", [255, 0, 51]),
        ("{size: [4, 4], color: L}", "x:float16[n,1,h,w]", [82 / 255]),
    ],
)
def test_the_preprocessing_is_what_its_block_says(tmp_path, block, input, expected):
    picture(tmp_path / "photos/a.png", (255, 0, 51))
    inputs = parse_inputs([input])
    dataset = open_dataset(described(tmp_path, f"path: photos\nimages: {block}"), inputs)
    dataset.check(inputs)
    values = dataset.source.sample(0).feed["x"][0]
    pixel = values[0, 0] if "NHWC" in block else values[:, 0, 0]
    np.testing.assert_allclose(pixel, expected, rtol=1e-3)
    assert not dataset.labelled


def test_pictures_of_another_shape_are_cropped_stretched_or_padded(tmp_path):
    wide = Image.new("RGB", (12, 4), (0, 0, 0))
    wide.paste((255, 255, 255), (4, 0, 8, 4))  # the middle third is white
    (tmp_path / "photos").mkdir()
    wide.save(tmp_path / "photos/a.png")
    means = {}
    for fit in ("crop", "stretch", "pad"):
        yaml = described(tmp_path, f"path: photos\nimages: {{fit: {fit}, interpolation: nearest}}")
        means[fit] = float(open_dataset(yaml, PICTURE).source.sample(0).feed["image"].mean())
    assert means["crop"] == 1.0
    assert means["pad"] < means["stretch"] < 0.6


def test_class_folders_that_are_numbers_are_those_numbers_and_a_list_gives_another_order(tmp_path):
    for name in ("7", "10"):
        picture(tmp_path / f"photos/{name}/a.png", (0, 0, int(name)))
    numbers = open_dataset(described(tmp_path, "path: photos\nimages: {}"), PICTURE)
    assert [batch.labels.tolist() for batch in numbers.batches()] == [[7], [10]]
    listed = open_dataset(described(tmp_path, "path: photos\nimages: {classes: ['10', '7', '8']}"), PICTURE)
    assert [batch.labels.tolist() for batch in listed.batches()] == [[0], [1]]


def test_another_preprocessing_is_another_digest(tmp_path):
    picture(tmp_path / "photos/a.png", (255, 0, 51))
    plain, centred = (
        open_dataset(described(tmp_path, f"path: photos\nimages: {{mean: {mean}}}"), PICTURE).digest
        for mean in (0, 0.5)
    )
    assert plain != centred


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("path: photos\nimages: {sise: 4}", "data.yaml:2: unknown key 'images.sise'", "did you mean 'size'"),
        ("path: photos\nimage: {size: 4}", "data.yaml:2: unknown key 'image'", "did you mean 'images'"),
        ("images: {size: 4}", "data.yaml:1: the key 'path' is missing", "path: photos"),
        ("path: photos\nimages: {mean: [1, 2]}", "mean has 2 values, RGB has 3 channels", None),
        (
            "path: photos\nimages:\n  layout: HWC",
            "data.yaml:3: images.layout should be 'NCHW' or 'NHWC', not 'HWC'",
            None,
        ),
        ("path: photos\nimages: {std: 0}", "std must not be 0", None),
        ("path: photos", "needs a block 'images' or 'text'", "path: photos"),
        ("- photos", "a data description is a mapping", "path: photos"),
        ("path: [", "not valid YAML", None),
        ("path: nowhere\nimages: {size: 4}", "nowhere: no such file or folder", "a .yaml describing images"),
        ("path: photos\nimages: {classes: [dog]}", "the folder 'cat' is not among the classes", "dog"),
        ("path: photos\nimages: {input: img}", "the model has no input 'img'", "image"),
        ("path: photos\nimages: {resize: 2}", "resized to 2 x 2, too small to crop 4 x 4", "raise 'resize'"),
    ],
)
def test_a_wrong_description_is_answered_with_its_place(tmp_path, text, message, hint):
    picture(tmp_path / "photos/cat/a.png", (0, 0, 0))
    with pytest.raises((DataError, SignatureError)) as caught:
        open_dataset(described(tmp_path, text), PICTURE).check(PICTURE)
    assert message in caught.value.message
    assert hint is None or hint in caught.value.hint


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a.jpg: not a readable image"):
        open_dataset(described(tmp_path, "path: photos\nimages: {}"), PICTURE).check(PICTURE)


def test_a_size_that_neither_block_nor_model_tells_is_asked_for(tmp_path):
    picture(tmp_path / "photos/a.png", (0, 0, 0))
    with pytest.raises(DataError, match="no size is given") as caught:
        open_dataset(described(tmp_path, "path: photos\nimages: {}"), parse_inputs(["x:float32[n,3,h,w]"]))
    assert caught.value.hint == "write size: 224"


def test_a_description_can_be_given_as_a_record(tmp_path):
    picture(tmp_path / "photos/a.png", (255, 0, 51))
    spec = datasets.DataSpec.model_validate({"path": str(tmp_path / "photos"), "images": {"size": 4}})
    assert len(open_dataset(spec, PICTURE)) == 1


# Text

TOKENS = parse_inputs(["input_ids:int64[batch,6]", "attention_mask:int64[batch,6]"])


def tokenizer(tmp_path, pad_to=None):
    words = ["[PAD]", "[UNK]", "good", "bad", "film", "a"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if pad_to:
        made.enable_padding(length=pad_to)
    made.save(str(tmp_path / "tokenizer.json"))


def text(tmp_path, lines, block, name="reviews.jsonl"):
    (tmp_path / name).write_text(lines)
    return described(tmp_path, f"path: {name}\ntext: {{tokenizer: tokenizer.json, {block}}}")


REVIEWS = '{"text": "a good film", "mood": "up"}\n\n{"text": "bad bad bad bad bad bad bad", "mood": "down"}\n'


@pytest.mark.parametrize("pad_to", [None, 128])
def test_text_becomes_the_inputs_that_the_model_has_whatever_padding_the_tokenizer_fixes(tmp_path, pad_to):
    tokenizer(tmp_path, pad_to)
    dataset = open_dataset(text(tmp_path, REVIEWS, "label: mood, max_length: 6"), TOKENS)
    dataset.check(TOKENS)
    (batch,) = dataset.batches(2)
    assert batch.feed["input_ids"].tolist() == [[5, 2, 4, 0, 0, 0], [3] * 6]
    assert batch.feed["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch.labels.tolist() == [1, 0]  # up comes after down


def test_text_without_padding_keeps_its_length_and_inputs_can_be_renamed(tmp_path):
    tokenizer(tmp_path)
    inputs = parse_inputs(["ids:int32[batch,length]"])
    dataset = open_dataset(text(tmp_path, REVIEWS, "padding: none, inputs: {ids: input_ids}"), inputs)
    dataset.check(inputs)
    assert [batch.feed["ids"].shape for batch in dataset.batches(2)] == [(1, 3), (1, 7)]


def test_a_csv_with_lines_in_its_cells_pairs_and_real_labels(tmp_path):
    tokenizer(tmp_path)
    lines = 'one,two,score\n"a\ngood",film,0.5\nbad,"film, bad",1\n'
    yaml = text(tmp_path, lines, "text: one, pair: two, label: score, max_length: 6", "pairs.csv")
    (batch,) = open_dataset(yaml, TOKENS).batches(2)
    assert batch.feed["input_ids"][0].tolist() == [5, 2, 4, 0, 0, 0]
    assert batch.labels.tolist() == [0.5, 1.0]
    assert batch.labels.dtype.kind == "f"


@pytest.mark.parametrize(
    ("lines", "block", "message", "hint"),
    [
        (REVIEWS, "text: txt", "row 1: has no 'txt'", "did you mean 'text'"),
        (REVIEWS, "label: label", "row 1: has no 'label'", "text, mood"),
        ('{"text": 3}', "max_length: 6", "row 1: 'text' is 3, not text", None),
        ("no json", "max_length: 6", "reviews.jsonl:1: not a line of JSON", None),
        ("[1]", "max_length: 6", "reviews.jsonl:1: not an object", None),
        ('{"text": "a", "y": "up"}\n{"text": "a", "y": 1}', "label: y", "words in some rows ('up')", None),
        ('{"text": "a", "y": [1]}', "label: y", "row 1: 'y' is [1], not a label", None),
        (REVIEWS, "inputs: {ids: input_ids}", "the model has no input 'ids'", "input_ids"),
        ("", "max_length: 6", "holds no samples", None),
    ],
)
def test_text_that_does_not_fit_is_refused_with_its_place(tmp_path, lines, block, message, hint):
    tokenizer(tmp_path)
    with pytest.raises(DataError) as caught:
        open_dataset(text(tmp_path, lines, block), TOKENS)
    assert message in caught.value.message
    assert hint is None or hint in caught.value.hint


def test_a_tokenizer_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer.json: no such tokenizer file"):
        open_dataset(text(tmp_path, REVIEWS, "max_length: 6"), TOKENS)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer.json"):
        open_dataset(text(tmp_path, REVIEWS, "max_length: 6"), TOKENS)


def test_an_input_that_no_tokenizer_fills_is_named(tmp_path):
    tokenizer(tmp_path)
    with pytest.raises(DataError, match="the tokenizer has no output 'pixels'"):
        open_dataset(text(tmp_path, REVIEWS, "max_length: 6"), parse_inputs(["pixels:float32[n,3]"]))
