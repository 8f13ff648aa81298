"""Stage `train`: trains VIP5: adapters, visual projector and layer norms on a frozen backbone.

Reads prompts (train, valid), image embeddings and the backbone of `pretrain`. Writes `models/<dataset>/train/`.
Trade-off: with a frozen backbone, a few percent of the parameters are trained and stored; `tune: full` trains all.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from features import schema
from features.errors import TableError
from features.runtime import stage
from features.runtime.stage import Context
from modeling.config.model import AdapterParams, VisionParams
from modeling.config.training import LoopParams
from modeling.training.run_files import checkpoints_of, manifest_of, prompt_names

SECTIONS = ("num_visual_tokens",)
_PROMPTS = (*prompt_names("train", (*schema.FAMILIES, "language")), *prompt_names("valid"))
READS = (
    *(f"data/${{dataset}}/{name}" for name in ("identifiers", "images/embeddings", *_PROMPTS)),
    "models/${dataset}/pretrain",
)
WRITES = ("models/${dataset}/train", "plots/${dataset}/train.csv", "metrics/${dataset}/train.json")


@dataclass(frozen=True, kw_only=True)
class Params(LoopParams):
    """Parameters of the stage `train`."""

    tune: Literal["parts", "full"] = "parts"
    """parts: train adapters, visual projector, layer norms and the embeddings of new tokens, with a frozen backbone.
    full: train everything."""
    small_embeddings: Literal["trained", "frozen"] = "trained"
    """Whether the whole-word and category embeddings are trained; the paper keeps them at their random values."""
    new_tokens: Literal["trained", "frozen"] = "trained"
    """Whether the embeddings of item identifiers, which no pretrained T5 has, are trained with the parts; the paper
    keeps them at their random values."""
    missing_photo: Literal["learned", "zeros"] = "learned"
    """Replacement of a missing photo: learned vectors, or a zero feature (the paper)."""
    standardise_photos: bool = True
    """Whether image features are standardised by the catalogue; the paper uses raw features."""
    adapters: AdapterParams = field(default_factory=AdapterParams)
    """Shape of the adapters."""


def run(params: Params, context: Context) -> int:
    """Train the parts that VIP5 adds to the backbone on the train prompts and save them."""
    from modeling.training import recipe

    device = recipe.select_device(params)
    backbone = recipe.read_backbone_manifest(context)
    photos = recipe.read_photos(context)
    vision = VisionParams(
        width=photos.width,
        num_visual_tokens=int(context.shared["num_visual_tokens"]),
        missing_photo=params.missing_photo,
        standardise=params.standardise_photos,
    )
    model, tokens = recipe.new_vip5(
        context, photos, params.adapters, vision, dropout=params.objective.dropout, tune=params.tune,
        small_embeddings=params.small_embeddings == "trained", new_tokens=params.new_tokens == "trained",
    )  # fmt: skip
    limit = backbone["tokens"]["max_target_tokens"]
    prompts = recipe.read_prompts(context, tokens, photos, families=params.families, max_target_tokens=limit)
    _check_placeholders(prompts.train.num_visual_tokens, vision.num_visual_tokens)

    read = (*prompt_names("train", params.families), *prompt_names("valid"))
    made_from = manifest_of(params, context, ("images/embeddings", *read))
    inputs = made_from | {"backbone_digest": backbone["backbone_digest"], "vision": asdict(vision)}
    checkpoints = checkpoints_of(context, "train", inputs)
    training_log = recipe.train_model(
        model, prompts, params, seed=context.seed, stage="train", device=device, checkpoints=checkpoints
    )

    recipe.write_vip5(context, model, params.adapters, vision, manifest=made_from, training_log=training_log)
    recipe.remove_states(checkpoints)
    return training_log.examples


def _check_placeholders(found: int, expected: int) -> None:
    """Compares the placeholders per photo of the prompts with the visual tokens of the model.

    Raises:
        TableError: the prompts have photos with another number of placeholders.
    """
    if found not in {0, expected}:
        raise TableError(
            f"{found} placeholders per photo in the prompts", f"num_visual_tokens = {expected}",
            "run `.venv/bin/dvc repro prompts`",
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.train`."""
    return stage.main("train", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
