"""VIP5: a T5 with visual tokens, whole-word and category embeddings, and adapters.

Reads a `Batch`; returns encoder states, logits or token losses.
Trade-off: the T5 of the transformers library stays unmodified. Hooks add the adapters and `inputs_embeds` adds photos
and small embeddings, so that without adapters and photos the outputs equal T5's.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from features.errors import ModelError
from features.schema import FAMILIES
from modeling.config.model import AdapterParams, VisionParams
from modeling.data.prompt_dataset import IGNORED, Batch
from modeling.data.seen_item_mask import MaskedTokens, mask_seen_logits
from modeling.data.tokenizer import CATEGORIES, WHOLE_WORDS
from modeling.models.adapters import Route, attach_adapters
from modeling.models.targets import SoftTargets
from modeling.models.token_loss import TokenLosses, token_losses, with_soft_targets
from modeling.models.visual_projector import VisualProjector, insert_visual_tokens

PHOTO_CONSTANTS = ("visual.mean", "visual.scale")  # computed from the catalogue, never trained
TOKEN_TABLES = ("t5.shared.weight", "t5.lm_head.weight")  # the second one only where it is not tied to the first
EXPLANATION = FAMILIES.index("explanation")
START_ID = 0  # T5 uses padding as the decoder's first token


class VIP5(nn.Module):
    """T5 with visual tokens, whole-word and category embeddings, and adapters.

    Args:
        t5: a T5ForConditionalGeneration with the vocabulary of the tokenizer.
        adapters: None adds no adapters.
        vision: None makes a text-only model, which rejects batches with photos.
        identifiers: tokens of item identifiers, which a sentence cannot contain; None for none.

    Example (trained parts): `t5`, `whole_word`, `category`, `visual`, `adapters` are the five children.
    """

    is_identifier: Bool[Tensor, "V"]

    def __init__(
        self, t5: Any, *, adapters: AdapterParams | None = None, vision: VisionParams | None = None,
        identifiers: Int[np.ndarray, "N"] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        width = int(t5.config.d_model)
        self.t5 = t5
        self.whole_word = nn.Embedding(WHOLE_WORDS, width)
        self.category = nn.Embedding(CATEGORIES, width)
        self.visual = None if vision is None else VisualProjector(width, vision)
        is_identifier = torch.zeros(int(t5.config.vocab_size), dtype=torch.bool)
        if identifiers is not None:
            is_identifier[torch.from_numpy(identifiers.astype(np.int64))] = True
        self.register_buffer("is_identifier", is_identifier, persistent=False)
        self.gradient_masks: list[RemovableHandle] = []
        self._route = Route()
        self.adapters = None if adapters is None else attach_adapters(t5, adapters, self._route)

    def embed(self, batch: Batch) -> Float[Tensor, "B S D"]:
        """Encoder input: token embeddings and visual tokens plus whole-word and category embeddings."""
        embeddings: Tensor = self.t5.shared(batch.input_ids)
        if self.visual is not None:
            tokens = self.visual(batch.image_features, batch.image_present)
            embeddings = insert_visual_tokens(embeddings, tokens, batch.category_ids == 1)
        elif batch.image_features.shape[1]:
            raise ModelError(
                "a batch with photos for a text-only model", "a text-only batch", "load the dataset with photos=None"
            )
        small: Tensor = self.whole_word(batch.whole_word_ids) + self.category(batch.category_ids)
        return embeddings + small

    def route(self, families: Int64[Tensor, "B"]) -> None:
        """Sets the prompt family of each row, or one for all rows, for the adapters' next forward pass."""
        self._route.families = families

    def encode(self, batch: Batch) -> Float[Tensor, "B S D"]:
        """Encoder states; rows may belong to different families."""
        self._route.families = batch.families
        output = self.t5.encoder(inputs_embeds=self.embed(batch), attention_mask=batch.mask)
        states: Tensor = output.last_hidden_state
        return states

    def decode(
        self,
        decoder_input_ids: Int64[Tensor, "B T"],
        states: Float[Tensor, "B S D"],
        attention_mask: Bool[Tensor, "B S"] | None,
        families: Int64[Tensor, "B"],
    ) -> Float[Tensor, "B T D"]:
        """Decoder states, scaled for the output layer.

        Args:
            decoder_input_ids: target tokens, starting with 0.
            states: from `encode`.
            attention_mask: of the source; None if it has no padding.
            families: family of each row.
        """
        self._route.families = families
        output = self.t5.decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden * self.t5.model_dim**-0.5 if self.t5.config.scale_decoder_outputs else hidden

    def logits(
        self,
        decoder_input_ids: Int64[Tensor, "B T"],
        states: Float[Tensor, "B S D"],
        attention_mask: Bool[Tensor, "B S"] | None,
        families: Int64[Tensor, "B"],
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each of `decoder_input_ids`; arguments as in `decode`."""
        logits: Tensor = self.t5.lm_head(self.decode(decoder_input_ids, states, attention_mask, families))
        return logits

    def forward(
        self, batch: Batch, soft: SoftTargets | None = None, masked_tokens: MaskedTokens | None = None
    ) -> TokenLosses:
        """The loss of every target token (teacher forcing).

        Args:
            batch: B rows.
            soft: soft targets for the first target token of some rows.
            masked_tokens: tokens to mask in the first decoder step of some rows.
        """
        states = self.encode(batch)
        hidden = self.decode(shifted_right(batch.labels), states, batch.mask, batch.families)
        positions = batch.label_positions
        if positions is None:
            raise ValueError("Batch.label_positions is set when the batch is made")
        logits = self.t5.lm_head(hidden.flatten(0, 1)[positions])  # (N, V)
        rows = positions.div(batch.labels.shape[1], rounding_mode="floor")
        logits = self._without_items(logits, batch.families[rows])
        if masked_tokens is not None:
            logits = mask_seen_logits(logits, rows, masked_tokens)
        losses = token_losses(logits, batch.labels.flatten()[positions], rows, batch.families)
        return losses if soft is None else with_soft_targets(losses, logits, soft)

    def _without_items(self, logits: Float[Tensor, "N V"], families: Int64[Tensor, "N"]) -> Float[Tensor, "N V"]:
        """Masks the identifiers in the logits of sentences, as decoding does."""
        sentences = families == EXPLANATION
        if logits.device.type == "cpu" and not bool(sentences.any()):
            return logits
        return logits.masked_fill(sentences[:, None] & self.is_identifier, -torch.inf)


def shifted_right(labels: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T"]:
    """Decoder input for `labels`: shifted right, starting with 0; padding -100 becomes 0.

    Example: [[7, 1, -100]] -> [[0, 7, 1]]
    """
    shifted = torch.cat([torch.full_like(labels[:, :1], START_ID), labels[:, :-1]], 1)
    return shifted.masked_fill(shifted == IGNORED, START_ID)


def set_trainable(
    model: VIP5, *, tune: Literal["parts", "full"], small_embeddings: bool, new_tokens: bool = False
) -> list[str]:
    """Sets `requires_grad` of all parameters and returns the names of the trainable ones, in the model's order.

    Args:
        model: changed in place.
        tune: "parts" trains adapters, visual projector, layer norms and "no photo" vectors; "full" trains everything.
        small_embeddings: whether to train the whole-word and category embeddings.
        new_tokens: "parts": whether to train the embeddings of item identifiers, which no pretrained T5 has; the
            gradient of all other rows of the table is masked.
    """
    while model.gradient_masks:  # of an earlier call
        model.gradient_masks.pop().remove()
    trained = []
    for name, parameter in model.named_parameters():
        if name.startswith(("whole_word.", "category.")):
            flag = small_embeddings
        elif name in TOKEN_TABLES and tune == "parts":
            flag = new_tokens
        else:
            constant = name in PHOTO_CONSTANTS
            flag = not constant and (tune == "full" or not name.startswith("t5.") or name.endswith("layer_norm.weight"))
        parameter.requires_grad_(flag)
        if flag and name in TOKEN_TABLES and tune == "parts":
            mask = parameter.register_hook(lambda gradient: gradient * model.is_identifier[:, None])  # type: ignore[no-untyped-call]
            model.gradient_masks.append(mask)
        if flag:
            trained.append(name)
    return trained


def partly_trained(model: VIP5) -> tuple[str, ...]:
    """Names of the token tables of which only the rows of identifiers are trained.

    These are tables that are trained although the rest of the T5 is frozen.
    """
    parameters = dict(model.named_parameters())
    trained = tuple(name for name in TOKEN_TABLES if name in parameters and parameters[name].requires_grad)
    frozen = any(name.startswith("t5.") and not parameter.requires_grad for name, parameter in parameters.items())
    return trained if frozen else ()


def num_trained(model: VIP5) -> int:
    """Number of trained values; of a partly trained table, those of the trained rows."""
    partly, rows = partly_trained(model), int(model.is_identifier.sum())
    trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return sum(rows * p.shape[1] if name in partly else p.numel() for name, p in trained)


def is_norm(name: str) -> bool:
    """Returns whether the parameter `name` is the weight of a layer norm.

    Example: "t5.encoder.final_layer_norm.weight" and "visual.norm.weight" are.
    """
    return name.endswith(("layer_norm.weight", ".norm.weight"))
