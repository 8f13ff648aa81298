"""The T5 of VIP5: from scratch, from a folder, or from the hub if a hub id is configured.

Reads section `backbone` of `params.yaml`; returns a T5ForConditionalGeneration with the tokenizer's vocabulary.
An output layer with weights of its own (T5 1.1, flan-t5, mT5) stays untied everywhere.
Trade-off: new rows of the vocabulary are drawn by the seed, with the mean and standard deviation of the old rows,
because the library's resizing is not seeded.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from features.errors import InputError, ModelError
from features.runtime.faults import is_unreachable
from features.runtime.seeds import rng
from modeling.config.model import BackboneParams, Scratch
from modeling.runtime.random_state import seeded

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_EXPECTED = f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a hub id"
BUCKETS, FINE_BUCKETS = 32, 128  # position buckets: T5's, exact to 8 tokens; those of `init: recency`, exact to 32


def new_t5(scratch: Scratch, *, vocabulary_size: int, dropout: float) -> Any:
    """Creates a T5 of the given size, initialised by torch's default generator."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocabulary_size,
        d_model=scratch.d_model,
        d_ff=scratch.d_ff,
        d_kv=scratch.d_kv,
        num_heads=scratch.num_heads,
        num_layers=scratch.num_layers,
        num_decoder_layers=scratch.num_decoder_layers,
        feed_forward_proj=scratch.feed_forward_proj,
        relative_attention_num_buckets=FINE_BUCKETS if scratch.init == "recency" else BUCKETS,
        dropout_rate=dropout,
        decoder_start_token_id=0,
    )
    t5 = T5ForConditionalGeneration(config)
    with torch.no_grad():
        t5.shared.weight.mul_(scratch.embedding_scale)
        # The tied output layer is scaled with the table; this keeps the logits of T5's initialisation.
        t5.decoder.final_layer_norm.weight.fill_(1 / scratch.embedding_scale)
        if scratch.init != "default":
            _init_identity(t5)
    return t5


def _init_identity(t5: Any) -> None:
    """Zeroes all residual branches, except that the decoder reads the mean of the encoder input."""
    for block in t5.encoder.block:
        block.layer[0].SelfAttention.o.weight.zero_()
        block.layer[-1].DenseReluDense.wo.weight.zero_()
    for block in t5.decoder.block:
        block.layer[0].SelfAttention.o.weight.zero_()
        block.layer[-1].DenseReluDense.wo.weight.zero_()
        cross = block.layer[1].EncDecAttention
        torch.nn.init.eye_(cross.v.weight)
        torch.nn.init.eye_(cross.o.weight)


def open_t5(params: BackboneParams, *, vocabulary_size: int, dropout: float, seed: int) -> Any:
    """Creates or loads the T5 of section `backbone`, with `vocabulary_size` token embeddings.

    Raises:
        InputError: `backbone.name` is not a T5 or mT5 in safetensors, locally or on the hub.
    """
    if params.scratch is not None:
        with seeded(seed, "backbone"):
            return new_t5(params.scratch, vocabulary_size=vocabulary_size, dropout=dropout)
    t5 = read_t5(str(params.name), dropout=dropout)
    resize_vocabulary(t5, vocabulary_size, seed)
    return t5


def read_t5(name: str, *, dropout: float) -> Any:
    """Loads a pretrained T5 or mT5 from a folder, or from the hub if `name` is not a folder.

    An mT5 is returned as the T5 it is: gated, and without the scaling before the output layer.

    Raises:
        InputError: `name` is not a complete T5 or mT5 in safetensors, or the hub cannot be reached.
    """
    from safetensors import SafetensorError
    from transformers import T5Config, T5ForConditionalGeneration

    label = f"backbone {name!r}"
    if Path(name).is_dir() and not (Path(name) / CONFIG_FILE).is_file():
        raise InputError(f"no {CONFIG_FILE} in {name}", _EXPECTED, "correct backbone.name")
    try:
        with _quiet():
            values, _ = T5Config.get_config_dict(name)
            kind = values.pop("model_type", None)
            if kind not in {"t5", "mt5"}:
                raise InputError(f"{label} of type {kind}", "a T5 or mT5", "choose another backbone.name")
            if kind == "mt5":
                values |= {"scale_decoder_outputs": False}
            config = T5Config(**{"decoder_start_token_id": 0} | values | {"dropout_rate": dropout})
            t5, loading = T5ForConditionalGeneration.from_pretrained(
                name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{label} that cannot be read ({reason})", _EXPECTED, _remedy(error)) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])[:3]
        raise InputError(
            f"{label} without {missing}", "all tensors of a T5 with decoder", "choose another backbone.name"
        )
    t5.config.tie_word_embeddings = is_tied(t5)  # the library ties them again at the next resizing otherwise
    return t5


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the libraries' warnings about tied weights and repeated requests, and the bars of loading."""
    from transformers.utils import logging as library

    hub = logging.getLogger("huggingface_hub")
    before, before_hub, bars = library.get_verbosity(), hub.level, library.is_progress_bar_enabled()
    library.set_verbosity(logging.ERROR)
    hub.setLevel(logging.ERROR)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(before)
        hub.setLevel(before_hub)
        if bars:
            library.enable_progress_bar()


def is_tied(t5: Any) -> bool:
    """Whether the output layer is the table of token embeddings (T5) or has its own weights (T5 1.1, flan, mT5)."""
    return t5.lm_head.weight is t5.shared.weight


def resize_vocabulary(t5: Any, size: int, seed: int) -> None:
    """Resizes token embeddings and output layer to `size` rows; new rows follow the mean and spread of the old ones."""
    old, old_output = t5.shared.weight.data, t5.lm_head.weight.data
    if old.shape[0] == size:
        return
    t5.resize_token_embeddings(size, mean_resizing=False)
    _draw_new_rows(t5.shared.weight.data, old, seed, "new token rows")
    if not is_tied(t5):
        _draw_new_rows(t5.lm_head.weight.data, old_output, seed, "new output rows")


def _draw_new_rows(table: Float[torch.Tensor, "V D"], old: Float[torch.Tensor, "W D"], seed: int, purpose: str) -> None:
    """Draws the rows of `table` after those of `old`."""
    if len(table) > len(old):
        draw = rng(seed, purpose).standard_normal((len(table) - len(old), old.shape[1])).astype(np.float32)
        table[len(old) :] = old.mean(0) + old.std(0) * torch.from_numpy(draw)


def copy_to_output(t5: Any, rows: Int64[torch.Tensor, "N"]) -> None:
    """Sets `rows` of an untied output layer to those of the token embeddings, scaled by the size of its other rows."""
    if is_tied(t5):
        return
    with torch.no_grad():
        others = torch.ones(len(t5.shared.weight), dtype=torch.bool)
        others[rows] = False
        of_input, of_output = (table.weight[others].square().mean().sqrt() for table in (t5.shared, t5.lm_head))
        t5.lm_head.weight[rows] = t5.shared.weight[rows] * (of_output / of_input)


def tokenizer_folder(params: BackboneParams) -> Path | None:
    """The folder of the backbone's tokenizer.json; None if a tokenizer must be trained.

    Raises:
        InputError: the configured folder has no tokenizer.json, or the hub cannot be reached.
    """
    if params.tokenizer is not None:
        folder = Path(params.tokenizer)
    elif params.name is not None and Path(params.name).is_dir():
        folder = Path(params.name)
    elif params.name is not None:
        return _tokenizer_on_hub(params.name)
    else:
        return None
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"no tokenizer.json in {folder}", "T5's tokenizer", "correct backbone.tokenizer")
    return folder


def _tokenizer_on_hub(name: str) -> Path:
    from transformers.utils import cached_file

    try:
        with _quiet():
            return Path(str(cached_file(name, "tokenizer.json"))).parent
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"no folder {name}, and no tokenizer of backbone {name!r} on the hub ({reason})", _EXPECTED,
            _remedy(error),
        ) from error  # fmt: skip


def _remedy(error: Exception) -> str:
    """What to do about a backbone that could not be loaded."""
    if is_unreachable(error):
        return "run where the hub can be reached, or set backbone.name to a folder (docs/guides/pretrained-weights.md)"
    return "correct backbone.name, or see docs/guides/pretrained-weights.md"


def load_t5(folder: Path, *, dropout: float = 0.0) -> tuple[Any, dict[str, Float[torch.Tensor, "N D"]]]:
    """Loads the T5 of `folder`; returns it and the remaining tensors (whole-word and category embeddings).

    Raises:
        ModelError: the folder has no complete model.
    """
    from safetensors.torch import load_file
    from transformers import T5Config, T5ForConditionalGeneration

    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"no {folder / name}", "a trained backbone", "run `.venv/bin/dvc repro pretrain`")
    config = T5Config.from_pretrained(folder, dropout_rate=dropout)
    with seeded(0, "overwritten by the checkpoint"):
        t5 = T5ForConditionalGeneration(config)
    tensors = load_file(folder / WEIGHTS_FILE)
    if "lm_head.weight" in tensors:
        t5.lm_head.weight = torch.nn.Parameter(torch.empty_like(t5.shared.weight))
        t5.config.tie_word_embeddings = False
    state = {name: tensors.pop(name) for name in list(tensors) if not name.startswith(("whole_word.", "category."))}
    missing, unexpected = t5.load_state_dict(state, strict=False)
    absent = sorted(set(missing) - {"lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})
    if absent or unexpected:
        raise ModelError(
            f"{folder / WEIGHTS_FILE} without {absent[:3]} and with unknown {unexpected[:3]}",
            "the tensors of its config.json",
            "run `.venv/bin/dvc repro pretrain`",
        )
    return t5, tensors
