from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from features.encoders.config import ClipParams
from features.encoders.encoder import ImageEncoder, TextEncoder, cores, placement
from features.encoders.loading import feature_width, load_image_encoder, load_text_encoder
from features.encoders.registry import ALIASES
from features.errors import InputError, ParamsError, TrainingError

TINY = ClipParams(model="vip5-tiny", device="cpu")


def picture(seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return load_image_encoder(TINY)


@pytest.fixture(scope="module")
def texts() -> TextEncoder:
    return load_text_encoder(TINY)


def encoded_alone(encoder: ImageEncoder, image: Image.Image) -> np.ndarray:
    return encoder.encode_images([image])[0]


def own_path(name: str, image: Image.Image, seed: int) -> np.ndarray:
    """What open_clip gives for one image by its documented calls."""
    torch.manual_seed(seed)
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained_text=False)
    with torch.no_grad():
        return model.eval().encode_image(preprocess(image)[None], normalize=True)[0].numpy()


def test_a_batch_gives_what_open_clip_gives_for_each_image_alone(encoder):
    images = [picture(seed) for seed in range(5)]
    found = encoder.encode_images(images)
    assert found.shape == (5, 64)
    assert found.dtype == np.float32
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, own_path("vip5-tiny", image, seed=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("alias", ["vitb32", "rn50"])
def test_a_published_architecture_gives_what_open_clip_gives(alias):
    """All five aliases: `python -m benchmarks.image_fidelity` (several GB of memory); these two are the quick ones."""
    big = load_image_encoder(ClipParams(model=alias, pretrained="untrained", seed=3, device="cpu"))
    image = picture(0, (300, 200))
    np.testing.assert_allclose(
        big.encode_images([image, picture(1)])[0], own_path(ALIASES[alias], image, seed=3), atol=1e-5
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_and_is_reported(encoder, texts, precision):
    half = load_image_encoder(ClipParams(model="vip5-tiny", device="cpu", precision=precision))
    assert half.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {str(p.dtype) for p in half.model.visual.parameters()} == {"torch.float32", str(half.dtype)}
    images = [picture(seed) for seed in range(3)]
    exact, found = encoder.encode_images(images), half.encode_images(images)
    assert found.dtype == np.float32
    assert not np.array_equal(exact, found)
    assert (exact * found).sum(axis=1).min() > 1 - {"bf16": 1e-3, "fp16": 1e-5}[precision]
    assert half.description["precision"] == precision
    titles = ["Red kettle", "Blue lamp"]
    half_texts = load_text_encoder(ClipParams(model="vip5-tiny", device="cpu", precision=precision))
    assert (texts.encode_texts(titles) * half_texts.encode_texts(titles)).sum(axis=1).min() > 1 - 1e-3


def test_half_precision_is_for_gpus_and_each_process_has_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert placement(ClipParams(model="vitb32")) == ("cuda:0", "fp16")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert placement(ClipParams(model="vitb32", precision="bf16")) == ("cuda:3", "bf16")
    assert placement(ClipParams(model="vitb32", device="cuda:1")) == ("cuda:1", "fp16")
    assert placement(ClipParams(model="vitb32", device="cpu")) == ("cpu", "fp32")


def test_processes_of_one_machine_divide_its_cores(monkeypatch):
    alone = cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(alone))
    assert cores() == 1


def test_a_feature_does_not_depend_on_its_place_or_its_company(encoder):
    pixels = torch.from_numpy(np.stack([encoder.fit(picture(seed)) for seed in range(8)]))
    together = encoder.start(pixels)()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(encoder.start(pixels[order])(), together[order.numpy()])
    lonely = torch.zeros_like(pixels)
    lonely[5] = pixels[2]
    assert np.array_equal(encoder.start(lonely)()[5], together[2])


def test_too_little_memory_is_one_clear_line(encoder):
    def too_much(batch):
        raise torch.OutOfMemoryError("tried to allocate 90 GiB")

    with pytest.raises(TrainingError, match="lower batch_size"):
        encoded_alone(replace(encoder, forward=too_much), picture(0))


def test_titles_keep_their_order_and_are_cut_at_the_context(texts):
    together = texts.encode_texts(["red kettle", "blue lamp", "long " * 500])
    np.testing.assert_allclose(together[1], texts.encode_texts(["blue lamp"])[0], atol=1e-5)
    np.testing.assert_allclose(together[2], texts.encode_texts(["long " * 100])[0], atol=1e-5)


def test_features_have_length_one_unless_asked_otherwise(encoder):
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_images([picture(1)]), axis=1), [1.0], rtol=1e-5)
    raw = load_image_encoder(ClipParams(model="vip5-tiny", normalise=False, device="cpu"))
    lengths = np.linalg.norm(raw.encode_images([picture(1)]), axis=1)
    assert abs(lengths[0] - 1) > 0.01


def test_nothing_in_nothing_out(encoder, texts):
    assert encoder.encode_images([]).shape == (0, 64)
    assert texts.encode_texts([]).shape == (0, 64)


def test_untrained_weights_depend_on_the_seed_only(encoder):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    again, other = load_image_encoder(TINY), load_image_encoder(ClipParams(model="vip5-tiny", seed=1, device="cpu"))
    assert torch.equal(torch.rand(3), expected)
    image = [picture(2)]
    assert np.array_equal(again.encode_images(image), encoder.encode_images(image))
    assert not np.allclose(other.encode_images(image), encoder.encode_images(image))


def test_an_untrained_encoder_says_so(encoder, caplog):
    load_image_encoder(TINY)
    assert "clip: vip5-tiny is UNTRAINED" in caplog.text
    assert encoder.description == {
        "model": "vip5-tiny", "pretrained": None, "untrained": True, "seed": 0, "normalised": True, "precision": "fp32",
    }  # fmt: skip


def test_weights_of_a_local_safetensors_file_are_used(tmp_path, caplog):
    trained = load_image_encoder(ClipParams(model="vip5-tiny", seed=5, device="cpu"))
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in trained.model.state_dict().items()}, path)
    caplog.clear()
    loaded = load_image_encoder(ClipParams(model="vip5-tiny", pretrained=str(path), device="cpu"))
    assert np.array_equal(loaded.encode_images([picture(3)]), trained.encode_images([picture(3)]))
    assert loaded.description["untrained"] is False
    assert loaded.description["pretrained"].startswith("weights.safetensors sha256 ")
    assert "UNTRAINED" not in caplog.text


def test_a_torch_file_gives_what_the_same_safetensors_give(encoder, tmp_path):
    torch.save({"state_dict": encoder.model.state_dict()}, tmp_path / "weights.pt")
    loaded = load_image_encoder(ClipParams(model="vip5-tiny", pretrained=str(tmp_path / "weights.pt"), device="cpu"))
    assert np.array_equal(loaded.encode_images([picture(3)]), encoder.encode_images([picture(3)]))


class RunsCode:
    def __reduce__(self):
        return (print, ("this ran",))


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"weight": torch.zeros(1), "more": RunsCode()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="whose weights cannot be read"):
        load_image_encoder(ClipParams(model="vip5-tiny", pretrained=str(tmp_path / "weights.pt"), device="cpu"))
    assert "this ran" not in capsys.readouterr().out


def test_weights_of_another_shape_name_the_first_tensor(encoder, tmp_path):
    weights = dict(encoder.model.state_dict())
    weights["visual.conv1.weight"] = torch.zeros(128, 3, 4, 4)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(
        InputError, match=r"visual.conv1.weight: \[128, 3, 4, 4\] in weights.pth; expected \[128, 3, 8, 8\]"
    ):
        load_image_encoder(ClipParams(model="vip5-tiny", pretrained=str(tmp_path / "weights.pth"), device="cpu"))


@pytest.mark.parametrize(
    ("params", "near"),
    [
        (ClipParams(model="ViT-B-33"), "ViT-B-32"),
        (ClipParams(model="vitb23"), "vitb32"),
        (ClipParams(model="ViT-B-32", pretrained="opena1"), r"a tag of ViT-B-32: openai.* \(the nearest known\)"),
        (ClipParams(model="vitl14"), r"ViT-L-14 without clip.pretrained; expected a tag of it, one of: openai, laion"),
        (
            ClipParams(model="rn50", pretrained="absent.safetensors"),
            r"an existing file .*\.safetensors.*, or a tag of RN50: one of: openai",
        ),
        (ClipParams(model="vip5-tiny", pretrained="openai"), "a tag of vip5-tiny: it has none"),
        (ClipParams(model="ViT-B-16-SigLIP"), "whose tokenizer is part of open_clip"),
    ],
)
def test_a_wrong_name_is_answered_with_the_near_ones(params, near):
    with pytest.raises(ParamsError, match=near):
        load_image_encoder(params)


def test_widths_are_those_of_the_published_feature_files():
    names = ("vitb32", "vitb16", "vitl14", "rn50", "rn101", "vip5-tiny")
    assert [feature_width(ClipParams(model=name)) for name in names] == [512, 512, 768, 1024, 512, 64]
