"""Parameters of the encoders: the shared section `clip`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ClipParams:
    """The shared section `clip`: the encoder of `images` and `texts`."""

    model: str
    """An open_clip model name, an alias (vitb32, vitb16, vitl14, rn50, rn101), or a file of
    features/encoders/clip_models."""
    pretrained: str | None = None
    """An open_clip weights tag (downloaded from a hub), the path of a local .safetensors file, or `untrained`; null is
    allowed for models without tags, which are untrained."""
    quick_gelu: bool | None = None
    """Use QuickGELU in the MLPs: null follows model and tag; true for OpenAI's weights from a local file."""
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
    """Precision of weights and activations (layer norms stay fp32): auto is fp16 on a GPU and fp32 on a CPU."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads = {self.threads} is negative")
