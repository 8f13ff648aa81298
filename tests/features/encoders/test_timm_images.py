import tarfile
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config

from features.encoders.config import ClipParams, Tower
from features.encoders.encoder import ImageEncoder
from features.encoders.loading import (
    describe_images,
    feature_width,
    image_cache_key,
    load_image_encoder,
    load_text_encoder,
)  # fmt: skip
from features.encoders.weight_files import read_weights
from features.errors import InputError, ParamsError
from features.vision.image_decoding import Decoded, PhotoLimits, decode

SMALL = "test_vit"  # 0.4 million parameters, 160 x 160


def picture(seed: int, size: tuple[int, int] = (190, 270)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def params(name: str = SMALL, pretrained: str | None = "untrained", **more: object) -> ClipParams:
    return ClipParams(model=f"timm/{name}", pretrained=pretrained, device="cpu", **more)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights of a model with its classifier, as timm publishes them."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({name: value.contiguous() for name, value in timm.create_model(SMALL).state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def encoder(weights) -> ImageEncoder:
    return load_image_encoder(params(pretrained=str(weights)))


def own_path(name: str, image: Image.Image, tensors: dict[str, torch.Tensor]) -> np.ndarray:
    """What timm gives for one image by its documented calls."""
    model = timm.create_model(name, num_classes=0).eval()
    model.load_state_dict({key: value for key, value in tensors.items() if key in model.state_dict()})
    with torch.no_grad():
        feature = model(create_transform(**resolve_model_data_config(model), is_training=False)(image)[None])[0].numpy()
    return feature / np.linalg.norm(feature)


def test_a_feature_is_what_timm_gives_for_the_image_alone(encoder, weights):
    images = [picture(0), picture(1, (400, 161)), picture(2, (160, 160))]
    found = encoder.encode_images(images)
    assert found.shape == (3, feature_width(params())) == (3, 64)
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, own_path(SMALL, image, load_file(weights)), atol=1e-3)


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet", "test_byobnet"])
def test_other_families_too(name):
    small = load_image_encoder(params(name, seed=4))
    found = small.encode_images([picture(5), picture(6)])
    assert small.width == feature_width(params(name))
    np.testing.assert_allclose(found[1], own_path(name, picture(6), small.model.state_dict()), atol=1e-3)


def test_a_feature_does_not_depend_on_place_or_company(encoder):
    pixels = torch.from_numpy(np.stack([encoder.fit(picture(seed)) for seed in range(6)]))
    together, backwards = encoder.start(pixels)(), encoder.start(pixels.flip(0))()
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-6)


def test_a_reduced_jpeg_has_enough_pixels_for_the_resize(encoder):
    assert encoder.fit.steps[0].size > encoder.fit.height
    assert encoder.fit.draft_side(2.0) == 2 * encoder.fit.steps[0].size


def test_torch_files_are_read_as_safetensors_are(encoder, weights, tmp_path):
    torch.save({"state_dict": {f"module.{name}": value for name, value in load_file(weights).items()}, "epoch": 3},
               tmp_path / "model.pth")  # fmt: skip
    again = load_image_encoder(params(pretrained=str(tmp_path / "model.pth")))
    assert np.array_equal(again.encode_images([picture(1)]), encoder.encode_images([picture(1)]))


def test_weights_of_another_model_name_the_first_tensor(weights, tmp_path):
    with pytest.raises(InputError, match=r"stem\.\S+: no such tensor in model.safetensors; expected \[\d+, 3, "):
        load_image_encoder(params("test_convnext", pretrained=str(weights)))
    tensors = load_file(weights) | {"patch_embed.proj.weight": torch.zeros(64, 3, 8, 8)}
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(
        InputError, match=r"patch_embed.proj.weight: \[64, 3, 8, 8\] in other.*expected \[64, 3, 16, 16\]"
    ):
        load_image_encoder(params(pretrained=str(tmp_path / "other.safetensors")))


@pytest.mark.parametrize("data", [b"", b"<html>not here</html>"])
def test_a_damaged_weight_file_is_one_line(tmp_path, data):
    for suffix in ("safetensors", "bin"):
        (tmp_path / f"model.{suffix}").write_bytes(data)
        with pytest.raises(InputError, match="whose weights cannot be read"):
            read_weights(tmp_path / f"model.{suffix}")


@pytest.mark.parametrize(
    ("name", "pretrained", "near"),
    [
        ("tf_eficientnet_lite0", "untrained", "a model of timm, tf_efficientnet_lite0"),
        ("tf_efficientnet_lite0", None, r"clip.pretrained = None; expected untrained, .*tf_efficientnet_lite0.in1k"),
        ("resnet18", "a1_in2k", r"or a tag: resnet18.a1_in1k"),
        ("resnet18.a1_in2k", "untrained", r"a tag of resnet18, resnet18.a1_in1k"),
        ("resnet18", "absent.safetensors", r"an existing file \(.bin, .pt, .pth, .safetensors\)"),
    ],
)
def test_a_wrong_name_is_answered_with_the_near_ones(name, pretrained, near):
    with pytest.raises(ParamsError, match=near):
        load_image_encoder(params(name, pretrained))


def test_a_hub_out_of_reach_is_one_line(monkeypatch):
    def unreachable(name, pretrained, num_classes):
        assert (name, pretrained, num_classes) == ("resnet18.a1_in1k", True, 0)
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    for clip in (
        params("resnet18", "a1_in1k"),
        params("resnet18", "resnet18.a1_in1k"),
        params("resnet18.a1_in1k", None),
    ):
        with pytest.raises(InputError, match=r"no weights of timm/resnet18.a1_in1k \(We couldn't connect\)"):
            load_image_encoder(clip)


def test_an_image_model_asked_for_texts_is_one_line():
    with pytest.raises(ParamsError, match=r"an image model, asked for texts.*set clip.text_model"):
        load_text_encoder(params())
    with pytest.raises(ParamsError, match=r"clip.text_model = timm/test_vit, an image model"):
        load_text_encoder(ClipParams(model="vip5-tiny", text_model="timm/test_vit"))


class Maps(torch.nn.Module):
    """Stands for a model that returns maps where others pool."""

    pretrained_cfg: ClassVar = {"input_size": (3, 8, 8)}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def test_a_model_without_pooled_feature_is_one_line(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda name, num_classes: Maps())
    with pytest.raises(ParamsError, match=r"timm/resnet26t, .* has the shape \[1, 3, 8, 8\]"):
        feature_width(params("resnet26t"))


def test_an_encoder_named_twice_is_refused():
    with pytest.raises(ValueError, match="also names timm/test_vit twice"):
        params(also=(Tower(model="timm/test_vit", pretrained="untrained"),))


def test_the_description_says_how_a_feature_was_made(weights, caplog):
    about = describe_images(params(pretrained=str(weights)))
    assert about["model"] == "timm/test_vit"
    assert about["pretrained"].startswith("model.safetensors sha256 ")
    assert about["feature"] == "pooled output of width 64"
    assert about["preprocessing"].startswith("Resize(size=")
    assert (about["untrained"], about["seed"], about["library"]) == (False, None, f"timm {timm.__version__}")
    drawn = load_image_encoder(params(seed=7))
    assert (drawn.description["pretrained"], drawn.description["seed"]) == (None, 7)
    assert "timm/test_vit is UNTRAINED" in caplog.text


def test_every_encoder_and_its_weights_has_its_own_cache(weights):
    clips = [params(), params(seed=1), params(pretrained=str(weights)), params("test_resnet"), params(normalise=False)]
    keys = {image_cache_key(clip.image_towers[0], clip) for clip in clips}
    assert len(keys) == len(clips)
    many = params(also=(Tower(model="vip5-tiny"),))
    assert image_cache_key(many.image_towers[0], many) == image_cache_key(clips[0].image_towers[0], clips[0])


def test_half_precision_stays_near(encoder, weights):
    half = load_image_encoder(params(pretrained=str(weights), precision="bf16"))
    images = [picture(seed) for seed in range(3)]
    assert (half.encode_images(images) * encoder.encode_images(images)).sum(axis=1).min() > 1 - 1e-2


@pytest.mark.real
def test_trained_weights_see_what_photos_show(real_data):
    """EfficientNet-Lite0 (ImageNet): two crops of one photo are nearer to each other than to another photo."""
    weights = real_data.parent / "models/tf_efficientnet_lite0.safetensors"
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    with tarfile.open(real_data / "amazon2018/gift_cards/photos.tar") as tar:
        files = [tar.extractfile(member).read() for member in islice((one for one in tar if one.isfile()), 20)]
    trained = load_image_encoder(params("tf_efficientnet_lite0", str(weights)))
    images = [found.image for found in (decode(data, PhotoLimits()) for data in files) if isinstance(found, Decoded)]
    whole = trained.encode_images(images)
    np.testing.assert_allclose(whole[3], own_path("tf_efficientnet_lite0", images[3], load_file(weights)), atol=1e-3)
    crops = trained.encode_images([image.crop((8, 8, image.width - 8, image.height - 8)) for image in images])
    assert (np.argmax(crops @ whole.T, axis=1) == np.arange(len(images))).mean() >= 0.9
