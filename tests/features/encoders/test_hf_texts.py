import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5Model

from features.encoders.config import ClipParams, Tower
from features.encoders.encoder import TextEncoder
from features.encoders.loading import (
    describe_texts,
    feature_width,
    load_image_encoder,
    load_text_encoder,
    text_cache_key,
    text_width,
)
from features.encoders.sentence_folders import read_folder
from features.errors import InputError, ParamsError

WORDS = ["red", "blue", "kettle", "lamp", "guitar", "with", "two", "necks", "long"]
TITLES = ["red kettle", "blue lamp", "guitar with two necks", "red", "long " * 60, "blue guitar with red necks"]
POOLING = "1_Pooling/config.json"


SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=40, **SPECIAL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A BERT of two layers, as transformers saves it."""
    path = tmp_path_factory.mktemp("texts") / "tiny_bert"
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(WORDS) + 4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, pad_token_id=0,
    )  # fmt: skip
    BertModel(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder) -> TextEncoder:
    return load_text_encoder(params(folder))


def params(folder: Path, **more: object) -> ClipParams:
    return ClipParams(model="vip5-tiny", text_model=f"hf/{folder}", device="cpu", **more)


def sentence_folder(folder: Path, to: Path, files: dict[str, object]) -> Path:
    """A copy of `folder` with files of sentence-transformers."""
    for path in folder.iterdir():
        to.mkdir(exist_ok=True)
        (to / path.name).write_bytes(path.read_bytes())
    layers = ["Transformer", "Pooling", "Normalize"]
    modules = [{"idx": n, "path": "" if n == 0 else f"{n}_{name}", "type": f"sentence_transformers.models.{name}"}
               for n, name in enumerate(layers)]  # fmt: skip
    for name, content in ({"modules.json": modules, POOLING: {"pooling_mode_mean_tokens": True}} | files).items():
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_text(json.dumps(content), encoding="utf-8")
    return to


def own_path(folder: Path, text: str, mode: str = "mean", max_length: int = 40) -> np.ndarray:
    """What transformers gives for one text by its documented calls, without padding."""
    model = AutoModel.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=max_length)
    with torch.no_grad():
        hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state[0]
    feature = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[mode].numpy()
    return feature / np.linalg.norm(feature)


def test_a_feature_is_the_mean_over_the_texts_own_tokens(encoder, folder):
    found = encoder.encode_texts(TITLES)
    assert found.shape == (len(TITLES), text_width(params(folder))) == (6, 32)
    for row, title in zip(found, TITLES, strict=True):
        np.testing.assert_allclose(row, own_path(folder, title), atol=1e-3)
    assert encoder.encode_texts([]).shape == (0, 32)


def test_order_and_batch_do_not_change_a_single_bit(encoder):
    together = encoder.encode_texts(TITLES * 5)
    assert np.array_equal(encoder.encode_texts(TITLES[::-1])[::-1], together[:6])
    assert np.array_equal(encoder.encode_texts(["lamp", TITLES[2]])[1], together[26])
    assert np.array_equal(encoder.encode_texts(["", TITLES[4]])[1], together[4])


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_sqrt_len_tokens": False}, "max"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_a_sentence_folder_says_how_to_pool(folder, tmp_path, pooling, mode):
    made = sentence_folder(folder, tmp_path / "st", {POOLING: pooling})
    found = load_text_encoder(params(made)).encode_texts(TITLES)
    for row, title in zip(found, TITLES, strict=True):
        np.testing.assert_allclose(row, own_path(folder, title, mode), atol=1e-3)
    assert describe_texts(params(made))["feature"] == f"{mode} over the tokens, of width 32"


def test_a_sentence_folder_says_length_case_prompt_and_norm(folder, tmp_path):
    made = sentence_folder(folder, tmp_path / "st", {
        "sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": True},
        "config_sentence_transformers.json": {"prompts": {"query": "blue "}, "default_prompt_name": "query"},
    })  # fmt: skip
    encoder = load_text_encoder(params(made, normalise=False))
    found = encoder.encode_texts(["Guitar WITH two necks"])[0]
    np.testing.assert_allclose(found, own_path(folder, "blue guitar with two necks", max_length=6), atol=1e-3)
    assert encoder.description["normalised"] is True


def test_two_poolings_are_joined(folder, tmp_path):
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    made = sentence_folder(folder, tmp_path / "st", {POOLING: both})
    assert text_width(params(made)) == 64
    found = load_text_encoder(params(made)).encode_texts(["red lamp"])[0]
    halves = [found[32 * n : 32 * n + 32] / np.linalg.norm(found[32 * n : 32 * n + 32]) for n in (0, 1)]
    np.testing.assert_allclose(halves[0], own_path(folder, "red lamp", "cls"), atol=1e-3)
    np.testing.assert_allclose(halves[1], own_path(folder, "red lamp", "mean"), atol=1e-3)


def test_other_layers_and_poolings_are_one_line(folder, tmp_path):
    dense = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"},
             {"path": "2_Dense", "type": "x.Dense"}]  # fmt: skip
    with pytest.raises(InputError, match="with the layers Transformer, Pooling, Dense"):
        read_folder(sentence_folder(folder, tmp_path / "a", {"modules.json": dense}))
    with pytest.raises(InputError, match="with the pooling lasttoken; expected of cls, mean, max"):
        read_folder(sentence_folder(folder, tmp_path / "b", {POOLING: {"pooling_mode_lasttoken": True}}))
    prompt = {"prompts": {"query": "represent: "}, "default_prompt_name": "query"}
    pooling = {"pooling_mode": "mean", "include_prompt": False}
    with pytest.raises(InputError, match="with a prompt that is left out of the pooling"):
        read_folder(sentence_folder(
            folder, tmp_path / "d", {"config_sentence_transformers.json": prompt, POOLING: pooling}
        ))  # fmt: skip
    made = sentence_folder(folder, tmp_path / "c", {})
    (made / "modules.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="that is not JSON"):
        read_folder(made)


def test_the_encoder_of_a_t5_is_used_alone(tmp_path):
    torch.manual_seed(2)
    config = T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)
    model = T5Model(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    found = load_text_encoder(params(tmp_path)).encode_texts(["red lamp"])[0]
    with torch.no_grad():
        expected = model.encoder(torch.tensor([[2, 4, 7, 3]])).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-3)


def test_weights_can_be_drawn_or_come_from_a_file(encoder, folder, tmp_path, caplog):
    drawn, again, other = (
        load_text_encoder(params(folder, text_pretrained="untrained", seed=seed)) for seed in (1, 1, 2)
    )
    rows = [one.encode_texts(["red lamp"]) for one in (drawn, again, other)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])
    assert "is UNTRAINED" in caplog.text
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "weights.bin")
    filed = load_text_encoder(params(folder, text_pretrained=str(tmp_path / "weights.bin")))
    assert np.array_equal(filed.encode_texts(TITLES), encoder.encode_texts(TITLES))


def test_weights_that_do_not_fit_name_the_first_tensor(folder, tmp_path):
    made = sentence_folder(folder, tmp_path / "st", {})
    weights = load_file(made / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file(weights | {name: torch.zeros(9, 32)}, made / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"{name}: \[9, 32\] in .*; expected \[13, 32\]"):
        load_text_encoder(params(made))
    del weights[name]
    save_file(weights, made / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"{name}: no such tensor in .*; expected \[13, 32\]"):
        load_text_encoder(params(made))


def test_a_wrong_folder_or_use_is_one_line(folder, tmp_path):
    with pytest.raises(InputError, match=r"has no config.json; .*hf download ID --local-dir FOLDER"):
        load_text_encoder(params(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "berd"}', encoding="utf-8")
    with pytest.raises(InputError, match="of which transformers makes no AutoConfig"):
        load_text_encoder(params(tmp_path))
    with pytest.raises(ParamsError, match=r"clip.text_pretrained = 'openai'.*expected null"):
        load_text_encoder(params(folder, text_pretrained="openai"))
    with pytest.raises(ParamsError, match="as an encoder of photos"):
        load_image_encoder(
            ClipParams(model="vip5-tiny", also=(Tower(model=f"hf/{folder}"),)), Tower(model=f"hf/{folder}")
        )
    with pytest.raises(ValueError, match="text_pretrained = openai without text_model"):
        ClipParams(model="vip5-tiny", text_pretrained="openai")


def test_an_error_names_the_parameter_where_it_stands(folder):
    with pytest.raises(ParamsError, match=r"clip.text_model = 'ViT-B-33'; expected ViT-B-32"):
        load_text_encoder(ClipParams(model="vip5-tiny", text_model="ViT-B-33"))
    with pytest.raises(ParamsError, match=r"clip.text_model = ViT-B-32 without clip.text_pretrained"):
        load_text_encoder(ClipParams(model="vip5-tiny", text_model="ViT-B-32"))
    many = ClipParams(model="vip5-tiny", also=(Tower(model="ViT-B-32"), Tower(model="timm/resnet19")))
    with pytest.raises(ParamsError, match=r"clip.also\[1\].model = 'timm/resnet19'; expected a model of timm, resnet1"):
        feature_width(many)


def test_the_description_and_the_cache_follow_the_files(folder, tmp_path):
    made = sentence_folder(folder, tmp_path / "st", {})
    about, key = describe_texts(params(made)), text_cache_key(params(made))
    assert about["model"] == "hf/st"
    assert about["pretrained"].startswith("model.safetensors sha256 ")
    assert str(tmp_path) not in json.dumps(about)
    (made / "sentence_bert_config.json").write_text('{"max_seq_length": 3}', encoding="utf-8")
    assert text_cache_key(params(made)) != key
