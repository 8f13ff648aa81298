"""Parameters of the encoders: the shared section `clip`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ClipParams:
    """The shared section `clip`: which encoder `images` and `texts` use."""

    model: str
    """An open_clip model name, an alias (vitb32, vitb16, vitl14, rn50, rn101), or a file of
    features/encoders/clip_models."""
    pretrained: str | None = None
    """An open_clip weights tag (fetched from a hub), the path of a local .safetensors file, or `untrained`; null is
    admitted for models without any tag, which are untrained."""
    quick_gelu: bool | None = None
    """Activation of the MLPs: null as model and tag say; true for OpenAI's weights given as a local file."""
    seed: int = 0
    """Draws the weights of an untrained encoder."""
    normalise: bool = True
    """Scale every feature to length 1. Whether the original did is unknown; CLIP was trained on such features."""
    threads: int = 1
    """Threads of the encoder on a CPU; 0 for one a core, which a model of the size of ViT-B-32 repays."""
    device: str = "auto"
    """Where the encoder runs: auto (cuda where there is one), cpu, cuda, cuda:1. Under torchrun, auto and cuda mean
    the process's own GPU."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Of weights and activations (layer norms stay fp32): auto is fp16 on a GPU and fp32 on a CPU."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads = {self.threads} is negative")
