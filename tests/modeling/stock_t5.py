"""Tiny pretrained models in the shapes that are published, made and trained by the transformers library alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from modeling.data.tokenizer import TOKENIZER_FILE
from modeling.data.train_tokenizer import train_tokenizer
from modeling.runtime.random_state import seeded
from tests.modeling.world import prompt_rows

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "t5-small": {"d_kv": 8, "feed_forward_proj": "relu"},
    "t5-v1_1": {"d_kv": 8, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "flan-t5": {"d_kv": 6, "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {"d_kv": 6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
"""flan-t5 is saved in shards; its heads and mt5's are narrower than the model; mt5's tokenizer has no sentinels."""


def write_stock(folder: Path, shape: str) -> Any:
    """Trains a model of `shape` for a few steps, saves it and its tokenizer in `folder`, and returns it."""
    texts = [row["source"] for family in ("sequential", "direct", "explanation") for row in prompt_rows(family)]
    tokenizer = train_tokenizer([*texts, *(row["target"] for row in prompt_rows("explanation"))], 120)
    if shape == "mt5":
        data = json.loads(tokenizer.to_str())
        data["added_tokens"] = [token for token in data["added_tokens"] if "extra_id" not in token["content"]]
        tokenizer = type(tokenizer).from_str(json.dumps(data))
    tokenizer.enable_truncation(8)  # as some published files have it
    folder.mkdir()
    tokenizer.save(str(folder / TOKENIZER_FILE))
    tokenizer.no_truncation()

    size: dict[str, Any] = {"vocab_size": 256, "d_model": 16, "d_ff": 32, "num_heads": 2, "num_layers": 1}
    settings = size | {"num_decoder_layers": 1} | SHAPES[shape]
    with seeded(3, "stock"):
        if shape == "mt5":
            model: Any = MT5ForConditionalGeneration(MT5Config(**settings))
        else:
            model = T5ForConditionalGeneration(T5Config(**settings, decoder_start_token_id=0))
        if settings.get("tie_word_embeddings") is False:
            model.lm_head.weight = torch.nn.Parameter(torch.randn(settings["vocab_size"], 16))
    _train(model, tokenizer, texts[:6])
    model.save_pretrained(folder, **({"max_shard_size": "8KB"} if shape == "flan-t5" else {}))
    if shape == "t5-v1_1":  # the published file names the output layer and leaves the scale to the reader
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        del config["scale_decoder_outputs"]
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}), encoding="utf-8")
    return model.eval()


def _train(model: Any, tokenizer: Any, texts: list[str]) -> None:
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    rows = [torch.tensor([[*tokenizer.encode(text).ids[:20], 1]]) for text in texts]
    for _ in range(3):
        for ids in rows:
            model(input_ids=ids, labels=ids[:, :6]).loss.backward()
            adam.step()
            adam.zero_grad()
