"""Parameters of the encoders: the shared section `clip`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Tower:
    """One encoder: a model by name and its weights."""

    model: str
    """Name of the model, as `clip.model`."""
    pretrained: str | None = None
    """Weights of the model, as `clip.pretrained`."""
    quick_gelu: bool | None = None
    """Use QuickGELU in the MLPs, as `clip.quick_gelu`."""


@dataclass(frozen=True, kw_only=True)
class ClipParams:
    """The shared section `clip`: the encoders of `images` and `texts`."""

    model: str
    """Encoder of photos: an open_clip model name, an alias (vitb32, vitb16, vitl14, rn50, rn101), a file of
    features/encoders/clip_models, or `timm/NAME`, an image model of timm."""
    pretrained: str | None = None
    """Weights: a tag of the model (downloaded from a hub), the path of a local .safetensors or torch file (.pt, .pth,
    .bin), or `untrained`; null is allowed for models without tags, which are untrained, and for `timm/NAME.TAG`."""
    quick_gelu: bool | None = None
    """Use QuickGELU in the MLPs of an open_clip model: null follows model and tag; true for OpenAI's weights from a
    local file."""
    also: tuple[Tower, ...] = ()
    """More encoders of photos. Every feature is scaled to length 1, and those of one photo are joined in this order,
    after that of `model`."""
    text_model: str | None = None
    """Encoder of titles: an open_clip name or alias, or `hf/FOLDER`, a local folder of a text encoder for
    transformers; null is the text half of `model`, and no title features if it is an image model."""
    text_pretrained: str | None = None
    """Weights of `text_model`, as `pretrained`; null for `hf/FOLDER` reads the weights in the folder."""
    seed: int = 0
    """Seed of the weights of an untrained encoder."""
    normalise: bool = True
    """Scale every feature to length 1, as in CLIP's training; whether the original implementation did is unknown."""
    threads: int = 1
    """CPU threads of the encoder; 0 uses one per core, which pays off from about the size of ViT-B-32."""
    device: str = "auto"
    """Device of the encoder: auto (cuda if available), cpu, cuda, cuda:1. Under torchrun, auto and cuda mean the
    process's own GPU."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Precision of weights and activations (layer norms of open_clip models stay fp32): auto is fp16 on a GPU and fp32
    on a CPU."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads = {self.threads} is negative")
        if self.text_model is None and self.text_pretrained is not None:
            raise ValueError(f"text_pretrained = {self.text_pretrained} without text_model")
        twice = [tower.model for tower in self.also if self.image_towers.count(tower) > 1]
        if twice:
            raise ValueError(f"also names {twice[0]} twice, or beside model")

    @property
    def image_towers(self) -> tuple[Tower, ...]:
        """The encoders of photos, in the order of their features."""
        return (Tower(model=self.model, pretrained=self.pretrained, quick_gelu=self.quick_gelu), *self.also)
