"""Published shapes of T5 take the same road as a T5 from scratch: load, resize, train adapters, evaluate."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5ForConditionalGeneration

from features.errors import InputError, ModelError
from modeling import evaluate, pretrain, train
from modeling.config.evaluate import SentenceParams
from modeling.config.model import BackboneParams
from modeling.config.training import Schedule
from modeling.data.prompt_dataset import Batch
from modeling.data.tokenizer import PHOTO, VIP5Tokenizer
from modeling.decoding.sentence_beams import SentenceVocabulary, decode_sentences
from modeling.kernels.fused_modules import use_fused_modules
from modeling.models.checkpoints import load_backbone_only, load_vip5
from modeling.models.t5 import is_tied, open_t5, read_t5, tokenizer_folder
from modeling.models.vip5 import VIP5
from tests.modeling.evaluated import LOOP, write_evaluated
from tests.modeling.stock_t5 import SHAPES, write_stock
from tests.modeling.world import exit_code, write_world

Stock = tuple[str, Path, Any]


@pytest.fixture(scope="module", params=list(SHAPES))
def stock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Shape, folder and model."""
    folder = tmp_path_factory.mktemp("stock") / request.param
    return request.param, folder, write_stock(folder, request.param)


def _batch(tokens: VIP5Tokenizer) -> Batch:
    texts = ["what is next ? user_3", "Explain to user_7 the 5 star"]
    encoded = tokens.encode(texts)
    ids = torch.zeros(len(texts), max(len(row.input_ids) for row in encoded), dtype=torch.long)
    for row, one in enumerate(encoded):
        ids[row, : len(one.input_ids)] = torch.from_numpy(one.input_ids)
    return Batch(
        input_ids=ids,
        whole_word_ids=torch.zeros_like(ids),
        category_ids=torch.zeros_like(ids),
        attention_mask=ids != 0,
        image_features=torch.zeros(len(texts), 0, 4),
        image_present=torch.zeros(len(texts), 0, dtype=torch.bool),
        labels=torch.tensor([[5, 6, 1], [9, 8, 7]]),
        families=torch.tensor([0, 2]),
    )


def _vip5(t5: Any) -> VIP5:
    """VIP5 without adapters, whose small embeddings add nothing."""
    model = VIP5(t5).eval()
    with torch.no_grad():
        model.whole_word.weight.zero_()
        model.category.weight.zero_()
    return model


@pytest.mark.parametrize("fused", [False, True])
def test_logits_are_those_of_the_stock_model(stock: Stock, fused: bool) -> None:
    _, folder, reference = stock
    tokens = VIP5Tokenizer.load(folder)
    model = _vip5(open_t5(BackboneParams(name=str(folder)), vocabulary_size=tokens.size, dropout=0.0, seed=1))
    if fused:
        use_fused_modules(model.t5)
    batch = _batch(tokens)
    decoder_input = torch.tensor([[0, 5, 6], [0, 9, 8]])
    with torch.no_grad():
        found = model.logits(decoder_input, model.encode(batch), batch.mask, batch.families)
        expected = reference(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), decoder_input_ids=decoder_input
        ).logits[..., : tokens.size]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    every = torch.ones(tokens.size, dtype=torch.bool)
    vocabulary = SentenceVocabulary(allowed=every, continues=~every, eos_id=tokens.eos_id)
    generated = decode_sentences(
        model, batch, vocabulary, beams=1, min_tokens=5, max_tokens=6, length_exponent=1.0, forbid_repeated_pairs=False
    )
    step = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(5):
            logits = reference(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), decoder_input_ids=step
            ).logits[:, -1, : tokens.size]
            logits[:, tokens.eos_id] = -torch.inf
            step = torch.cat([step, logits.argmax(-1, keepdim=True)], 1)
    assert generated[:, :5].tolist() == step[:, 1:].tolist()


def test_new_rows_of_both_tables_are_seeded(stock: Stock) -> None:
    shape, folder, reference = stock
    one, two = (open_t5(BackboneParams(name=str(folder)), vocabulary_size=300, dropout=0.2, seed=4) for _ in range(2))
    assert is_tied(one) == (shape == "t5-small")
    assert one.encoder.embed_tokens.weight is one.shared.weight
    assert one.encoder.dropout.p == 0.2
    for table, old in ((one.shared, reference.shared), (one.lm_head, reference.lm_head)):
        assert table.weight.shape == (300, 16)
        assert torch.equal(table.weight[:256], old.weight)
        assert table.weight[256:].std().item() == pytest.approx(old.weight.std().item(), rel=0.2)
    assert torch.equal(one.shared.weight, two.shared.weight)
    assert torch.equal(one.lm_head.weight, two.lm_head.weight)


def test_a_pretrained_backbone_goes_through_all_stages(stock: Stock, tmp_path: Path) -> None:
    shape, folder, reference = stock
    place = write_evaluated(tmp_path, backbone={"name": str(folder), "max_source_tokens": 512})
    evaluate.run(
        evaluate.Params(num_threads=1, explanations=SentenceParams(max_tokens=4), bootstrap_resamples=20, sasrec=None),
        place,
    )
    assert json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))["sequential"]

    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), place)
    kept, tokens = load_backbone_only(place)
    assert is_tied(kept.t5) == (shape == "t5-small")
    size = VIP5Tokenizer.load(folder).size
    for table, old in ((kept.t5.shared, reference.shared), (kept.t5.lm_head, reference.lm_head)):
        assert torch.equal(table.weight[:size], old.weight[:size])
        assert len(table.weight) == tokens.size
    library = T5ForConditionalGeneration.from_pretrained(place.model("pretrain"))
    assert torch.equal(library.lm_head.weight, kept.t5.lm_head.weight)
    assert library.config.scale_decoder_outputs == (shape == "t5-small")
    train.run(train.Params(**vars(LOOP), tune="full"), place)
    load_vip5(place)


def test_item_vectors_reach_an_untied_output_layer(stock: Stock, tmp_path: Path) -> None:
    _, folder, _ = stock
    place = write_evaluated(tmp_path, backbone={"name": str(folder), "max_source_tokens": 512})
    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0), item_embedding_init="spectral"), place)
    model, tokens = load_backbone_only(place)
    items = torch.from_numpy(tokens.identifier_ids).long()
    cosines = torch.cosine_similarity(model.t5.shared.weight[items], model.t5.lm_head.weight[items])
    torch.testing.assert_close(cosines, torch.ones(len(items)))


def test_a_tokenizer_of_mt5_gets_the_photo_placeholder(tmp_path: Path) -> None:
    write_stock(tmp_path / "mt5", "mt5")
    tokens = VIP5Tokenizer.load(tmp_path / "mt5")
    assert tokens.photo_id == tokens.size - 1
    words = "Here is what user_1 bought and what is next ?"
    assert len(tokens.encode([f"{words} {PHOTO}"])[0].input_ids) > 10  # beyond the truncation in the file


def test_other_models_and_incomplete_ones_are_refused(tmp_path: Path) -> None:
    write_stock(tmp_path / "t5", "t5-small")
    path = tmp_path / "t5" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"num_decoder_layers": 2}), encoding="utf-8")
    with pytest.raises(InputError, match=r"without \['decoder\.block\.1"):
        read_t5(str(tmp_path / "t5"), dropout=0.0)
    path.write_text(json.dumps(config | {"model_type": "bart"}), encoding="utf-8")
    with pytest.raises(InputError, match="of type bart; expected a T5 or mT5"):
        read_t5(str(tmp_path / "t5"), dropout=0.0)
    path.write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "t5" / "model.safetensors").write_bytes(b"spoilt")
    with pytest.raises(InputError, match="that cannot be read"):
        read_t5(str(tmp_path / "t5"), dropout=0.0)


def test_an_unreachable_hub_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub\nCheck your internet connection")

    monkeypatch.setattr("transformers.utils.cached_file", refused)
    place = write_world(tmp_path)
    shared = dict(place.shared) | {"backbone": {"name": "t5-small"}}
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(pretrain, pretrain.Params(), replace(place, shared=shared)) == 3
    assert len(caplog.messages) == 1
    assert "no folder t5-small, and no tokenizer of backbone 't5-small' on the hub" in caplog.messages[0]
    assert caplog.messages[0].endswith("or set backbone.name to a folder (docs/guides/pretrained-weights.md)")
    assert "\n" not in caplog.messages[0]
    with pytest.raises(InputError, match="no folder data/raw/none/x"):
        tokenizer_folder(BackboneParams(name="data/raw/none/x"))


def test_parts_do_not_fit_another_backbone(tmp_path: Path) -> None:
    write_stock(tmp_path / "one", "t5-small")
    place = write_evaluated(tmp_path / "world", backbone={"name": str(tmp_path / "one"), "max_source_tokens": 512})
    write_stock(tmp_path / "two", "t5-v1_1")
    shared = dict(place.shared) | {"backbone": {"name": str(tmp_path / "two"), "max_source_tokens": 512}}
    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), replace(place, shared=shared))
    with pytest.raises(ModelError, match=r"trained on backbone \w{16}; expected backbone \w{16}"):
        load_vip5(place)
