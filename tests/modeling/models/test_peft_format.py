"""The peft library loads an exported LoRA onto the stock T5 and computes what VIP5 computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import T5ForConditionalGeneration

from features.runtime.stage import Context
from features.schema import FAMILIES
from modeling import pretrain, train
from modeling.config.model import AdapterParams, VisionParams
from modeling.config.training import Batching, LoopParams, Schedule, Validation
from modeling.models.checkpoints import load_vip5, open_model, save_trained
from modeling.models.vip5 import VIP5, set_trainable
from tests.modeling.stock_t5 import write_stock
from tests.modeling.world import context, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=1), batching=Batching(batch_size=30), validation=Validation(examples_per_family=0)
)


def _trained(root: Path, adapters: AdapterParams, *, shape: str | None = None) -> Context:
    """A world whose VIP5 was trained with `adapters`, on a stock model of `shape` or one from scratch."""
    place = write_world(root / "world")
    if shape is not None:
        write_stock(root / "stock", shape)
        place = context(place.root, backbone={"name": str(root / "stock"), "max_source_tokens": 512})
    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), place)
    train.run(train.Params(**vars(LOOP), adapters=adapters), place)
    return place


def _stock_with(place: Context, folder: Path) -> Any:
    stock = T5ForConditionalGeneration.from_pretrained(place.model("pretrain"))
    return PeftModel.from_pretrained(stock, folder).eval()


@torch.no_grad()
def _assert_equal(model: VIP5, peft: Any, family: int) -> None:
    """Compares the states of both stacks and the logits for the same embeddings of the source."""
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(2, 9, int(model.t5.config.d_model), generator=generator)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    size = int(model.t5.config.vocab_size)
    decoder_input = torch.tensor([[0, 5, size - 1, size - 4], [0, size - 2, 8, 3]])
    families = torch.tensor([family, family])
    model.route(families)
    states = model.t5.encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
    logits = model.logits(decoder_input, states, mask.bool(), families)
    found = peft(inputs_embeds=embeddings, attention_mask=mask, decoder_input_ids=decoder_input)
    torch.testing.assert_close(found.encoder_last_hidden_state, states, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.logits, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [None, "t5-small", "flan-t5", "mt5"])
def test_peft_computes_the_same_on_the_stock_t5(shape: str | None, tmp_path: Path) -> None:
    place = _trained(tmp_path, AdapterParams(kind="lora", reduction=4, routing="single"), shape=shape)
    peft = _stock_with(place, place.model("train") / "peft")
    _assert_equal(load_vip5(place)[0], peft, 1)
    query = peft.base_model.model.encoder.block[0].layer[0].SelfAttention.q
    assert query.scaling["default"] == 2.0
    assert query.lora_B["default"].weight.abs().max() > 0


def test_every_family_has_its_folder(tmp_path: Path) -> None:
    adapters = AdapterParams(kind="lora", routing="per_family", cross_attention=False, lora_scale=1.5)
    place = _trained(tmp_path, adapters)
    folder = place.model("train") / "peft"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FAMILIES)
    model, _ = load_vip5(place)
    for number, family in enumerate(FAMILIES):
        peft = _stock_with(place, folder / family)
        assert not any("EncDecAttention" in name for name, _ in peft.named_modules() if "lora" in name)
        _assert_equal(model, peft, number)


@pytest.mark.parametrize("shape", ["t5-small", "t5-v1_1"])
def test_trained_rows_of_token_tables_are_written(shape: str, tmp_path: Path) -> None:
    adapters = AdapterParams(kind="lora", reduction=4, routing="single")
    place = _trained(tmp_path, adapters, shape=shape)
    model, tokens = open_model(place, adapters=adapters, vision=VisionParams(width=8, num_visual_tokens=2), seed=5)
    set_trainable(model, tune="parts", small_embeddings=True)
    items = torch.from_numpy(tokens.identifier_ids).long()
    with torch.no_grad():
        for table in {model.t5.shared.weight, model.t5.lm_head.weight}:
            table.requires_grad_(True)
            table[items] += torch.randn(len(items), table.shape[1])
    save_trained(place, model, {"adapters": None, "vision": None})
    _assert_equal(model.eval(), _stock_with(place, place.model("train") / "peft"), 0)


@pytest.mark.parametrize("changed", [{"tune": "full"}, {"adapters": AdapterParams(kind="bottleneck")}])
def test_other_trained_models_are_not_written(changed: dict[str, Any], tmp_path: Path) -> None:
    place = write_world(tmp_path)
    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), place)
    train.run(train.Params(**vars(LOOP), **({"adapters": AdapterParams(kind="lora")} | changed)), place)
    assert not (place.model("train") / "peft").exists()
