"""What a folder of a text encoder says about itself: pooling, longest text, lower case, prompt.

Reads the JSON files of a sentence-transformers folder (`modules.json`, `1_Pooling/config.json`,
`sentence_bert_config.json`, `config_sentence_transformers.json`). A folder without `modules.json` means the mean over
its tokens.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError

MODES = ("cls", "mean", "max")


@dataclass(frozen=True, kw_only=True)
class SentenceFolder:
    """How texts become features.

    `model` is the folder of transformers. `modes` are joined in this order. `max_length` counts tokens; None means the
    model's own limit. `prompt` stands before every text.
    """

    model: Path
    modes: tuple[str, ...] = ("mean",)
    max_length: int | None = None
    lower_case: bool = False
    prompt: str = ""
    normalised: bool = False


def read_folder(folder: Path) -> SentenceFolder:
    """What the files in `folder` say.

    Raises:
        InputError: A file is not JSON, or asks for a layer other than pooling and normalisation.
    """
    if not (folder / "modules.json").is_file():
        return SentenceFolder(model=folder)
    modules = [(str(one.get("type", "")).rpartition(".")[2], folder / str(one.get("path", "")))
               for one in _json(folder / "modules.json", list)]  # fmt: skip
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{folder} with the layers {', '.join(kinds)}", "Transformer, Pooling and perhaps Normalize",
            "choose a text encoder without other layers",
        )  # fmt: skip
    own, model = _json(modules[0][1] / "sentence_bert_config.json", dict), modules[0][1]
    whole = _json(folder / "config_sentence_transformers.json", dict)
    prompt = (whole.get("prompts") or {}).get(whole.get("default_prompt_name")) or ""
    if prompt and _json(modules[1][1] / "config.json", dict).get("include_prompt") is False:
        raise InputError(
            f"{folder} with a prompt that is left out of the pooling", "a prompt that counts, or none",
            "choose a text encoder without instructions",
        )  # fmt: skip
    return SentenceFolder(
        model=model, modes=_modes(modules[1][1] / "config.json"), max_length=own.get("max_seq_length"),
        lower_case=bool(own.get("do_lower_case")), prompt=str(prompt), normalised="Normalize" in kinds,
    )  # fmt: skip


def _modes(path: Path) -> tuple[str, ...]:
    config = _json(path, dict)
    asked = [key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
             for key, value in config.items() if key.startswith("pooling_mode_") and value is True]  # fmt: skip
    named = config.get("pooling_mode")  # the form of newer versions
    asked += [named] if isinstance(named, str) else list(named or ())
    if not asked or set(asked) - set(MODES):
        raise InputError(
            f"{path} with the pooling {', '.join(asked) or 'none'}", f"of {', '.join(MODES)}",
            "choose a text encoder with such a pooling",
        )  # fmt: skip
    return tuple(mode for mode in MODES if mode in asked)


def _json(path: Path, kind: type) -> Any:
    """The content of a JSON file; empty if there is no such file."""
    if not path.is_file():
        return kind()
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} that is not JSON ({error})", "a whole file", "copy or download it again") from error
    if not isinstance(loaded, kind):
        raise InputError(f"{path} holding {type(loaded).__name__}", kind.__name__, "copy or download it again")
    return loaded
