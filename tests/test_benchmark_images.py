import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import images
from benchmarks.crops import CROPS_OF_ONE, make_photos
from features.encoders.config import ClipParams
from features.encoders.loading import load_image_encoder
from tests.features.made_photos import drawing, encoded


@pytest.fixture(autouse=True)
def loud_again():
    yield
    logging.disable(logging.NOTSET)  # which the benchmark sets higher


@pytest.fixture
def originals(tmp_path):
    folder = tmp_path / "originals"
    folder.mkdir()
    for number, colour in enumerate(["red", "green", "blue"]):
        (folder / f"B{number}.jpg").write_bytes(encoded(drawing(colour, size=(90 + number, 80))))
    return folder


def test_crops_are_as_many_as_asked_for_and_all_different(originals, tmp_path):
    into = tmp_path / "crops"
    into.mkdir()
    notes = make_photos(originals, into, 100, enlarge=1, workers=2)
    files = sorted(into.iterdir())
    assert [files[0].name, files[-1].name, len(files), notes["originals"]] == ["P000000.jpg", "P000099.jpg", 100, 3]
    assert len({path.read_bytes() for path in files}) == 100
    with Image.open(into / "P000004.jpg") as second_of_the_second:
        assert second_of_the_second.size == (90, 80)
    with pytest.raises(ValueError, match="at most 4096 of each"):
        make_photos(originals, into, 3 * CROPS_OF_ONE + 1, enlarge=1)


def test_pipeline_and_bare_pass_take_turns(originals, capfd):
    command = [
        str(originals), "--count", "22", "--model", "vip5-tiny", "vip5-tiny", "--batch-size", "4", "--turn", "2",
        "--threads", "1", "--workers", "2", "--peak", "1", "--ahead", "3", "--device", "cpu",
    ]  # fmt: skip
    images.main(command)
    out, err = capfd.readouterr()
    about, first, _ = (json.loads(line) for line in out.splitlines())
    assert [about["device"], about["originals"]] == ["cpu", 3]
    assert about["product_tflop_a_second"] > 0
    assert [first["model"], first["photos"], first["compared"]] == ["vip5-tiny", 22, 4]
    assert first["largest_difference"] < 1e-6 < first["median_difference_of_two_photos"]
    assert 0 < first["share_of_peak"] == pytest.approx(first["bare_tflop_a_second"], abs=1e-3)
    turns = [json.loads(line)["photos"] for line in err.splitlines() if line.startswith("{")]
    assert turns == [8, 16, 22, 8, 16, 22]


def test_after_its_seconds_a_model_gets_one_turn(originals, capfd):
    images.main([
        str(originals), "--count", "22", "--model", "vip5-tiny", "--batch-size", "4", "--turn", "1", "--threads", "1",
        "--seconds", "0", "--device", "cpu",
    ])  # fmt: skip
    assert json.loads(capfd.readouterr().out.splitlines()[1])["photos"] == 4


def test_fused_attention_is_counted_too():
    encoder = load_image_encoder(ClipParams(model="vip5-tiny", device="cpu"))
    _, gflop = images.prepared(encoder, 2)
    tower = encoder.model.visual
    (
        width,
        tokens,
    ) = tower.class_embedding.shape[0], tower.positional_embedding.shape[0]
    inner, layers = tower.transformer.resblocks[0].mlp.c_fc.out_features, len(tower.transformer.resblocks)
    a_block = tokens * (4 * width * width + 2 * width * inner) + 2 * tokens * tokens * width
    patches = (tokens - 1) * width * int(np.prod(tower.conv1.weight.shape[1:]))
    assert gflop * 1e9 == 2 * (layers * a_block + patches + width * encoder.width)
    assert torch.backends.mha.get_fastpath_enabled()
