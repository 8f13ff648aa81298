"""Wraps transformers: loads a text encoder from a local folder.

Reads one encoder of the section `clip`, named `hf/FOLDER`. The feature is the mean of the last hidden states over the
text's tokens, or what the files of sentence-transformers in the folder say.
Trade-off: a text is padded to a multiple of 16 tokens and encoded in blocks of 16 texts of that length, so that its
feature does not depend on the other texts of its batch, not even in the last bit.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int

from features.encoders.config import ClipParams, Tower
from features.encoders.encoder import UNTRAINED, TextEncoder, dtype_of, moved_to, placement, seeded
from features.encoders.registry import HF
from features.encoders.sentence_folders import SentenceFolder, read_folder
from features.encoders.weight_files import is_weight_file, load_weights, mismatch, named
from features.errors import InputError, ParamsError

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any  # torch is imported late; the tests check dtypes and shapes all the same

log = logging.getLogger("vip5")

CODE = ("encoders/hf_texts.py", "encoders/sentence_folders.py", "encoders/weight_files.py")
LIBRARIES = ("transformers", "tokenizers")
ROWS = 16  # texts of a block
MULTIPLE = 16  # tokens
_LIMIT = 512  # tokens, where neither model nor tokenizer has a limit
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}  # their first positions are not for tokens
_UNUSED = ("pooler.",)  # not part of the last hidden states


def load_texts(tower: Tower, params: ClipParams) -> TextEncoder:
    """Loads the encoder, in evaluation mode on its device.

    Raises:
        ParamsError: `text_pretrained` is neither null, `untrained` nor a weight file.
        InputError: There is no such folder, it holds no text encoder, or its weights do not fit it.
    """
    folder = _folder(tower)
    about, config = read_folder(folder), _config(folder)
    tokenizer = _from(about.model, "AutoTokenizer")
    device, precision = placement(params)
    with seeded(params):
        model = _model(about.model, config, tower)
    if tower.pretrained == UNTRAINED:
        log.warning("clip: %s is UNTRAINED: features of texts do not reflect their meaning", tower.model)
    model = moved_to(model, device, dtype_of(precision))
    limit = _limit(about, config, tokenizer)

    def forward(texts: list[str]) -> Any:
        prepared = [about.prompt + (text.lower() if about.lower_case else text) for text in texts]
        tokens: list[list[int]] = tokenizer(prepared, truncation=True, max_length=limit)["input_ids"]
        pad = tokenizer.pad_token_id or 0
        return in_blocks([ids or [pad] for ids in tokens], model, pad=pad, longest=limit, modes=about.modes)

    return TextEncoder(
        model=model, width=width(tower), device=device, dtype=dtype_of(precision),
        normalise=params.normalise or about.normalised, description=describe(tower, params), forward=forward,
    )  # fmt: skip


def in_blocks(
    tokens: list[list[int]], model: Any, *, pad: int, longest: int, modes: Iterable[str]
) -> Float[Tensor, "N D"]:
    """Features of tokenized texts, in order, on the CPU; none of them is empty or has more than `longest` tokens."""
    import torch

    groups: dict[int, list[int]] = defaultdict(list)
    for place, ids in enumerate(tokens):
        groups[min(-(-len(ids) // MULTIPLE) * MULTIPLE, longest)].append(place)
    found: dict[int, Any] = {}
    for length, places in sorted(groups.items()):
        for start in range(0, len(places), ROWS):
            block = places[start : start + ROWS]
            rows = [tokens[place] for place in block] + [[pad]] * (ROWS - len(block))
            padded = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
            hidden = model(input_ids=padded.to(model.device), attention_mask=mask.to(model.device)).last_hidden_state
            features = pooled(hidden.float(), mask.to(model.device), modes).cpu()
            found |= dict(zip(block, features, strict=False))
    return torch.stack([found[place] for place in range(len(tokens))])


def pooled(hidden: Float[Tensor, "N L H"], mask: Int[Tensor, "N L"], modes: Iterable[str]) -> Float[Tensor, "N D"]:
    """The hidden states of each text as one row: that of the first token, their mean or their maximum, joined."""
    import torch

    inside = mask[..., None].to(hidden.dtype)
    parts = {
        "cls": lambda: hidden[:, 0],
        "mean": lambda: (hidden * inside).sum(1) / inside.sum(1).clamp(min=1e-9),
        "max": lambda: hidden.masked_fill(inside == 0, -1e9).amax(1),
    }
    return torch.cat([parts[mode]() for mode in modes], dim=1)


def _folder(tower: Tower) -> Path:
    folder = Path(tower.model.removeprefix(HF))
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise InputError(
            f"clip.text_model = {tower.model!r}, where {folder} has no config.json",
            "a local folder with config.json, safetensors and tokenizer.json",
            "write the folder's path after `hf/`; `.venv/bin/hf download ID --local-dir FOLDER` fetches one",
        )
    if tower.pretrained not in {None, UNTRAINED} and not is_weight_file(tower.pretrained):
        raise ParamsError(
            f"clip.text_pretrained = {tower.pretrained!r} for {tower.model}",
            f"null for the weights in the folder, {UNTRAINED}, or an existing weight file", "choose one of them",
        )  # fmt: skip
    return folder


def _from(folder: Path, kind: str, **more: Any) -> Any:
    """What a class of transformers reads from a local folder; code in the folder is never run."""
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, **more)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{folder}, of which transformers makes no {kind} ({str(error).strip().splitlines()[0][:200]})",
            "config.json, safetensors (or pytorch_model.bin) and tokenizer.json of a text encoder",
            "download the whole folder again, or choose another text encoder",
        ) from error


def _config(folder: Path) -> Any:
    config = _from(read_folder(folder).model, "AutoConfig")
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise InputError(
            f"{folder} with a model of type {config.model_type}", "a text encoder with one hidden_size",
            "choose a text encoder such as BERT, MPNet or T5; the text half of a CLIP comes from open_clip",
        )  # fmt: skip
    return config


def _model(folder: Path, config: Any, tower: Tower) -> Any:
    """The model; the encoder alone of an encoder-decoder."""
    import transformers

    if tower.pretrained is None:
        model, found = _from(folder, "AutoModel", output_loading_info=True, ignore_mismatched_sizes=True)
        for name, in_file, in_model in sorted(found["mismatched_keys"]):
            raise mismatch(str(folder), name, str(list(in_file)), str(list(in_model)))
        for name in sorted(name for name in found["missing_keys"] if not name.startswith(_UNUSED)):
            raise mismatch(str(folder), name, "no such tensor", str(list(model.state_dict()[name].shape)))
    else:
        model = transformers.AutoModel.from_config(config)
        if tower.pretrained != UNTRAINED:
            load_weights(model, Path(tower.pretrained), ("cls", "classifier", "lm_head"))
    return model.get_encoder() if config.is_encoder_decoder else model


def _limit(about: SentenceFolder, config: Any, tokenizer: Any) -> int:
    """Longest text in tokens."""
    positions = getattr(config, "max_position_embeddings", None) or _LIMIT
    if config.model_type in _OFFSET_POSITIONS:
        positions -= 2
    return int(min(about.max_length or tokenizer.model_max_length, positions))


def width(tower: Tower) -> int:
    """The length of a feature, from the folder's configuration; no weights are created or read."""
    folder = _folder(tower)
    return int(_config(folder).hidden_size) * len(read_folder(folder).modes)


def describe(tower: Tower, params: ClipParams) -> dict[str, Any]:
    """Description of the encoder for manifests: the folder's name and the digest of its weights, not its path."""
    folder, untrained = _folder(tower), tower.pretrained == UNTRAINED
    about = read_folder(folder)
    return {
        "model": f"{HF}{folder.resolve().name}",
        "pretrained": None if untrained else _weights(about.model, tower.pretrained),
        "untrained": untrained,
        "seed": params.seed if untrained else None,
        "normalised": params.normalise or about.normalised,
        "precision": placement(params)[1],
        "feature": f"{' + '.join(about.modes)} over the tokens, of width {width(tower)}",
        "preprocessing": "lower case" if about.lower_case else "the folder's tokenizer",
        "library": f"transformers {version('transformers')}",
    }


def _weights(folder: Path, pretrained: str | None) -> str:
    if pretrained is not None:
        return named(pretrained)
    files = sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin")))
    return ", ".join(named(str(path)) for path in files)


def more_of_key(tower: Tower) -> dict[str, Any]:
    """What determines a feature beside the description: every JSON and vocabulary file of the folder."""
    from features.store.tables import file_digest

    folder = _folder(tower)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in {".json", ".txt", ".model"})
    return {"files": {str(path.relative_to(folder)): file_digest(path) for path in files}}
