"""Projects image features to visual tokens and inserts them into the encoder input.

Reads image features, their presence and the positions of placeholders; returns encoder input embeddings in
which the k-th placeholder of a row is replaced by its k-th visual token.
Trade-off: one gather per batch, which also projects the padding of the photos.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from modeling.config.model import VisionParams


class VisualProjector(nn.Module):
    """Linear, tanh, Linear, RMS norm over all r x D numbers, split into r tokens (VIP5 section 3.2).

    Args:
        width: D, width of the model.
        params: width of an image feature, r, and the treatment of missing photos.
    """

    def __init__(self, width: int, params: VisionParams) -> None:
        super().__init__()
        r = params.num_visual_tokens
        self.standardise = params.standardise
        if params.standardise:  # set by `fit_standardisation`, stored with the trained tensors
            self.mean = nn.Parameter(torch.zeros(params.width), requires_grad=False)
            self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.num_visual_tokens, self.width = r, width
        self.inner = nn.Linear(params.width, width * r // 2)
        self.outer = nn.Linear(width * r // 2, width * r)
        self.norm = nn.RMSNorm(width * r, eps=1e-6)
        self.no_photo = nn.Parameter(torch.randn(r, width)) if params.missing_photo == "learned" else None

    def forward(
        self, features: Float[Tensor, "B P F"], present: Bool[Tensor, "B P"]
    ) -> Float[Tensor, "B P*{self.num_visual_tokens} D"]:
        """Visual tokens of `features`; `present` is False for missing photos."""
        batch, photos = present.shape
        if self.standardise:
            features = (features - self.mean) * self.scale * present[:, :, None]
        outer = self.outer(torch.tanh(self.inner(features)))
        projected = self.norm(outer.to(self.norm.weight.dtype))  # a norm in bfloat16 would be inaccurate
        tokens: Tensor = projected.view(batch, photos, self.num_visual_tokens, self.width)  # (B, P, r, D)
        if self.no_photo is not None:
            tokens = torch.where(present[:, :, None, None], tokens, self.no_photo.to(tokens.dtype))
        return tokens.flatten(1, 2)

    def fit_standardisation(self, features: Float[Tensor, "N F"]) -> None:
        """Computes mean and standard deviation of the `features` of all present photos.

        CLIP features share a large common component, more so with an untrained encoder; removing it lets the
        differences between photos use the range of the projector.
        """
        if self.standardise and len(features):
            with torch.no_grad():
                self.mean.copy_(features.mean(0))
                self.scale.copy_(1 / (features - self.mean).std(correction=0).clamp_min(1e-6))


def insert_visual_tokens(
    embeddings: Float[Tensor, "B S D"], visual_tokens: Float[Tensor, "B N D"], placeholders: Bool[Tensor, "B S"]
) -> Float[Tensor, "B S D"]:
    """Replaces the k-th placeholder of each row of `embeddings` by its k-th visual token.

    Args:
        embeddings: token embeddings.
        visual_tokens: visual tokens in order; surplus tokens are ignored.
        placeholders: positions to replace.

    Example: placeholders [0, 1, 1, 0] take visual tokens 0 and 1 at positions 1 and 2.
    """
    if visual_tokens.shape[1] == 0:
        return embeddings
    order = (placeholders.cumsum(1) - 1).clamp(0, visual_tokens.shape[1] - 1)  # (B, S)
    chosen = visual_tokens.gather(1, order[:, :, None].expand(-1, -1, embeddings.shape[2]))
    return torch.where(placeholders[:, :, None], chosen.to(embeddings.dtype), embeddings)
