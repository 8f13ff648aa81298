"""Image features to visual tokens, and visual tokens into their places.

Enters: image features (B, M, F), which of them are there, and which source positions are placeholders.
Leaves: encoder input embeddings in which the k-th placeholder of a row has become the row's k-th visual token.
Trade-off: one gather for the whole batch; photos that fill padding are projected for nothing.
"""

import torch
from torch import Tensor, nn

from modeling.config.settings import VisionParams


class VisualProjector(nn.Module):
    """Linear, tanh, Linear, RMS norm over all r x D numbers, split into r tokens (VIP5 section 3.2).

    Args:
        width: D, of the model.
        params: width of an image feature, r, and what stands for a photo that is not there.
    """

    def __init__(self, width: int, params: VisionParams) -> None:
        super().__init__()
        r = params.num_visual_tokens
        self.standardise = params.standardise
        if params.standardise:  # set by `fit_to`, stored with the trained tensors
            self.mean = nn.Parameter(torch.zeros(params.width), requires_grad=False)
            self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.num_visual_tokens, self.width = r, width
        self.inner = nn.Linear(params.width, width * r // 2)
        self.outer = nn.Linear(width * r // 2, width * r)
        self.norm = nn.RMSNorm(width * r, eps=1e-6)
        self.no_photo = nn.Parameter(torch.randn(r, width)) if params.missing_photo == "learned" else None

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """Visual tokens (B, M x r, D) of `features` (B, M, F); `present` (B, M) is False where there is no photo."""
        batch, photos = present.shape
        if self.standardise:
            features = (features - self.mean) * self.scale * present[:, :, None]
        outer = self.outer(torch.tanh(self.inner(features)))
        projected = self.norm(outer.to(self.norm.weight.dtype))  # a norm in bfloat16 would be a coarse one
        tokens: Tensor = projected.view(batch, photos, self.num_visual_tokens, self.width)  # (B, M, r, D)
        if self.no_photo is not None:
            tokens = torch.where(present[:, :, None, None], tokens, self.no_photo.to(tokens.dtype))
        return tokens.flatten(1, 2)

    def fit_to(self, features: Tensor) -> None:
        """Takes mean and spread from the `features` (N, F) of the photos that are there.

        CLIP features share a large common part (encoders without training even more so); without it a photo's own
        part fills the projector's range.
        """
        if self.standardise and len(features):
            with torch.no_grad():
                self.mean.copy_(features.mean(0))
                self.scale.copy_(1 / (features - self.mean).std(correction=0).clamp_min(1e-6))


def place(embeddings: Tensor, visual_tokens: Tensor, placeholders: Tensor) -> Tensor:
    """`embeddings` (B, S, D) with the k-th placeholder of each row replaced by its k-th visual token.

    Args:
        embeddings: of the tokens.
        visual_tokens: (B, K, D); surplus ones are ignored.
        placeholders: (B, S) bool.

    Example: placeholders [0, 1, 1, 0] take visual tokens 0 and 1 at positions 1 and 2.
    """
    if visual_tokens.shape[1] == 0:
        return embeddings
    order = (placeholders.cumsum(1) - 1).clamp(0, visual_tokens.shape[1] - 1)  # (B, S)
    chosen = visual_tokens.gather(1, order[:, :, None].expand(-1, -1, embeddings.shape[2]))
    return torch.where(placeholders[:, :, None], chosen.to(embeddings.dtype), embeddings)
