"""Tokenised prompt tables, and batches of them with photos.

Reads `prompts/<split>/<family>` tables, a tokenizer and a photo table; returns `Batch` tensors.
Trade-off: the whole dataset stays in memory as flat arrays (about 6 bytes per token), so that every row is tokenised
once and a batch is a gather.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from torch import Tensor
from torch.utils.data import Dataset

from features import schema
from features.errors import TableError
from features.store.tables import read_table
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.truncation import without_oldest
from modeling.runtime.devices import CPU, to_device

IGNORED = -100  # label of padding, which cross-entropy ignores
_COLUMNS = (
    "split", "family", "prompt_id", "variant", "round", "user_id", "target_item_id", "image_item_ids",
    "candidate_item_ids", "source", "target",
)  # fmt: skip


@dataclass(frozen=True)
class PhotoTable:
    """Image features of the whole catalogue (24 MB for 12,000 items of width 512)."""

    features: Float32[np.ndarray, "N F"]
    """Indexed by item_id; row 0 and items without a usable photo are zeros."""
    present: Bool[np.ndarray, "N"]
    """Indexed by item_id: whether the item has a usable photo."""
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def width(self) -> int:
        """Width of an image feature."""
        return int(self.features.shape[1])

    @classmethod
    def load(cls, folder: Path) -> "PhotoTable":
        """Loads the table `images/embeddings`."""
        rows = read_table(folder, schema.embeddings, columns=("item_id", "embedding", "status"))
        item_ids = rows["item_id"].to_numpy()
        vectors = rows["embedding"].combine_chunks()
        width = vectors.type.list_size
        features = np.zeros((int(item_ids.max(initial=0)) + 1, width), np.float32)
        present = np.zeros(len(features), bool)
        present[item_ids] = pc.equal(rows["status"], "ok").to_numpy(zero_copy_only=False)
        features[item_ids] = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        features[~present] = 0
        return cls(features, present)

    def withheld(self) -> "PhotoTable":
        """A copy of the table in which no item has a photo, for the ablation without photos."""
        return PhotoTable(np.zeros_like(self.features), np.zeros_like(self.present))

    def of(
        self, item_ids: Int[np.ndarray, "*shape"], device: torch.device
    ) -> tuple[Float32[Tensor, "*shape F"], Bool[Tensor, "*shape"]]:
        """Features and presence of `item_ids`, on `device`.

        A GPU keeps a copy of the table, so that only item ids are transferred per batch; the features of a hundred
        candidates take 200 kB per row.
        """
        if device.type == "cpu":
            return torch.from_numpy(self.features[item_ids]), torch.from_numpy(self.present[item_ids])
        if device not in self._copies:
            self._copies[device] = (
                torch.from_numpy(self.features).to(device),
                torch.from_numpy(self.present).to(device),
            )
        features, present = self._copies[device]
        rows = to_device(torch.from_numpy(item_ids.astype(np.int64)), device)
        return features[rows], present[rows]


@dataclass(frozen=True)
class Batch:
    """A padded batch of B rows of any families: S source tokens, P photos of width F, T target tokens."""

    input_ids: Int64[Tensor, "B S"]
    """Padded with 0."""
    whole_word_ids: Int64[Tensor, "B S"]
    category_ids: Int64[Tensor, "B S"]
    """1 at the positions of visual tokens."""
    attention_mask: Bool[Tensor, "B S"]
    """False on padding."""
    image_features: Float[Tensor, "B P F"]
    """In the order of the placeholders; P is 0 in a text-only dataset."""
    image_present: Bool[Tensor, "B P"]
    """False for padding and for items without a usable photo."""
    labels: Int64[Tensor, "B T"]
    """Padded with -100."""
    families: Int64[Tensor, "B"]
    """0 sequential, 1 direct, 2 explanation."""
    is_padded: bool = True
    """False if all rows have the same length, so that attention needs no mask."""
    label_positions: Int64[Tensor, "N"] | None = None
    """Indices of `labels.flatten()` that are not padding, computed on the CPU to avoid a device sync."""
    rows: Int64[np.ndarray, "R"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Row numbers in the dataset, on the CPU, one per row; empty for a batch of no dataset."""

    def __post_init__(self) -> None:
        if self.label_positions is None:
            object.__setattr__(self, "label_positions", (self.labels.flatten() != IGNORED).nonzero()[:, 0])

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def to(self, device: torch.device | str) -> "Batch":
        """Copies the batch to `device`."""
        target = torch.device(device)
        moved: dict[str, Any] = {n: to_device(v, target) for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    @property
    def mask(self) -> Bool[Tensor, "B S"] | None:
        """`attention_mask`, or None if the batch has no padding."""
        return self.attention_mask if self.is_padded else None


class PromptDataset(Dataset[Batch]):
    """Tokenised prompt tables; all attributes follow the order of the tables and their rows.

    `dataset[rows]` is the batch of an array of row numbers, so that a `DataLoader` takes a sampler of such arrays.

    Attributes:
        device: where `dataset[rows]` puts the batch; the CPU, or as set by `to`.
        sources, words: Ragged token ids (int32) and whole-word ids (int16).
        targets: Ragged token ids with the end of sequence.
        image_ids: Ragged item ids of the photos in text order; empty rows in a text-only dataset.
        candidate_ids: Ragged item ids; empty for rows without candidates.
        families: (N,) int64. rounds: (N,) int32. user_ids: (N,) int32. target_item_ids: (N,) int32, 0 for none.
        prompt_ids, variants, splits, source_texts, target_texts: Arrow string columns.
        num_visual_tokens: placeholders per photo; 0 in a text-only dataset or without any photo.
    """

    def __init__(
        self, rows: pa.Table, tokens: VIP5Tokenizer, photos: PhotoTable | None, *, max_target_tokens: int = 64
    ) -> None:
        self.tokens, self.photos, self.device = tokens, photos, CPU
        self.splits, self.prompt_ids, self.variants = rows["split"], rows["prompt_id"], rows["variant"]
        self.source_texts, self.target_texts = rows["source"], rows["target"]
        self.user_ids: Int32[np.ndarray, "N"] = rows["user_id"].to_numpy()
        self.rounds: Int32[np.ndarray, "N"] = rows["round"].to_numpy()
        self.target_item_ids: Int32[np.ndarray, "N"] = rows["target_item_id"].fill_null(0).to_numpy()
        self.candidate_ids = Ragged.from_arrow(rows["candidate_item_ids"])
        self.image_ids = Ragged.from_arrow(rows["image_item_ids"])
        codes = pc.index_in(rows["family"], pa.array(schema.FAMILIES))
        self.families: Int64[np.ndarray, "N"] = codes.to_numpy().astype(np.int64)
        texts = rows["source"].to_pylist()
        if tokens.truncate == "oldest":
            self._shorten(texts)
        self.sources, words = tokens.encode_sources(texts)
        self.words = Ragged(words.values.astype(np.int16), words.offsets)
        self.targets = tokens.encode_target_rows(rows["target"].to_pylist(), max_target_tokens)
        self.num_visual_tokens = self._count_placeholders()
        if photos is None:
            self._drop_photos()

    @classmethod
    def load(
        cls, tables: Sequence[Path], tokens: VIP5Tokenizer, photos: PhotoTable | None, *, max_target_tokens: int = 64
    ) -> "PromptDataset":
        """Loads prompt tables such as `data/sample/prompts/test/direct`, in the given order.

        Args:
            tables: folders named `<split>/<family>`.
            tokens: the tokenizer of the backbone.
            photos: None makes a text-only dataset: placeholders are removed from the sources; the other tokens keep
                their whole-word ids.
            max_target_tokens: maximum target length, including the end of sequence; longer targets are truncated.

        Raises:
            TableError: a table is missing or incomplete, or its placeholders do not match its photos.
            InputError: a source exceeds the tokenizer's limit and must not be truncated.
        """
        rows = [read_table(t, schema.prompts(t.parent.name, t.name), columns=_COLUMNS) for t in tables]
        return cls(pa.concat_tables(rows), tokens, photos, max_target_tokens=max_target_tokens)

    def __len__(self) -> int:
        return len(self.sources)

    def with_photos(self, photos: PhotoTable) -> "PromptDataset":
        """Returns the dataset with the features of another photo table; both share all other arrays."""
        view = copy.copy(self)
        view.photos = photos
        return view

    def __getitem__(self, rows: Int[np.ndarray, "B"]) -> Batch:
        return self.batch(rows, self.device)

    def to(self, device: torch.device) -> "PromptDataset":
        """A copy that puts its batches on `device`; the token arrays are shared."""
        copied = copy.copy(self)
        copied.device = device
        return copied

    @property
    def lengths(self) -> Int64[np.ndarray, "N"]:
        """Source tokens per row, including the end of sequence."""
        return self.sources.lengths

    def is_single_item(self, indices: Int[np.ndarray, "B"]) -> Bool[np.ndarray, "B"]:
        """Whether the target of each row is one identifier token and the end of sequence."""
        first = self.targets.values[self.targets.offsets[indices]]
        is_identifier = np.isin(first, self.tokens.identifier_ids)
        single: Bool[np.ndarray, "B"] = is_identifier & (self.targets.lengths[indices] == 2)
        return single

    def next_item_rows(self, rows: Int[np.ndarray, "N"]) -> Int[np.ndarray, "M"]:
        """The next-item rows among `rows` whose target is a single identifier token."""
        next_item: Int[np.ndarray, "M"] = rows[self.is_single_item(rows) & (self.families[rows] == 0)]
        return next_item

    def batch(self, indices: Int[np.ndarray, "B"] | Sequence[int], device: torch.device = CPU) -> Batch:
        """The batch of rows `indices`, padded to the longest row, on `device`."""
        chosen = np.asarray(indices, np.int64)
        input_ids = self.sources.padded(chosen, fill=self.tokens.pad_id).astype(np.int64)
        image_ids = self.image_ids.padded(chosen, fill=0)
        features, present = self._photos_of(image_ids, device)
        batch = Batch(
            input_ids=torch.from_numpy(input_ids),
            whole_word_ids=torch.from_numpy(self.words.padded(chosen, fill=0).astype(np.int64)),
            category_ids=torch.from_numpy((input_ids == self.tokens.photo_id).astype(np.int64)),
            attention_mask=torch.from_numpy(np.arange(input_ids.shape[1]) < self.lengths[chosen, None]),
            image_features=features,
            image_present=present,
            labels=torch.from_numpy(self.targets.padded(chosen, fill=IGNORED).astype(np.int64)),
            families=torch.from_numpy(self.families[chosen]),
            is_padded=bool((self.lengths[chosen] != input_ids.shape[1]).any()),
            rows=chosen,
        )
        return batch.to(device)

    def _shorten(self, texts: list[str]) -> None:
        """Drops the oldest items, and their photos, from next-item prompts that are too long."""
        sequential = np.flatnonzero(self.families == schema.FAMILIES.index("sequential"))
        # A token has at least one byte, so shorter texts fit without being encoded.
        long = [int(row) for row in sequential if len(texts[row].encode()) >= self.tokens.max_source_tokens]
        kept = np.ones(len(self.image_ids.values), bool)
        for row in long:
            texts[row], dropped = without_oldest(texts[row], self.tokens.fits)
            kept[self.image_ids.offsets[row] + np.array(dropped, np.int64)] = False
        self.image_ids = self.image_ids.keep(kept)
        if long:
            self.source_texts = pa.chunked_array([pa.array(texts, pa.string())])

    def _photos_of(
        self, image_ids: Int[np.ndarray, "B P"], device: torch.device
    ) -> tuple[Float32[Tensor, "B P F"], Bool[Tensor, "B P"]]:
        if self.photos is None:
            return torch.zeros(*image_ids.shape, 1), torch.zeros(image_ids.shape, dtype=torch.bool)
        return self.photos.of(image_ids, device)

    def _count_placeholders(self) -> int:
        """Number of placeholders per photo, the same for all rows.

        Raises:
            TableError: a row has another number of placeholders, or a photo of an unknown item.
        """
        placeholders = self.sources.keep(self.sources.values == self.tokens.photo_id).lengths
        images = self.image_ids.lengths
        ratio = int((placeholders // np.maximum(images, 1)).max(initial=0))  # rows that are not truncated determine it
        exact = placeholders == images * ratio
        if self.tokens.truncate == "end":  # the paper's truncation may lose placeholders; surplus photos are ignored
            exact |= placeholders < images * ratio
        if not exact.all():
            row = int(np.argmin(exact))
            raise TableError(
                f"{placeholders[row]} placeholders for {images[row]} photos in {self.source_texts[row].as_py()[:80]!r}",
                f"{ratio} placeholders per photo",
                "run `.venv/bin/dvc repro`; a title or name must not contain <extra_id_0>",
            )  # fmt: skip
        if self.photos is not None and self.image_ids.values.max(initial=0) >= len(self.photos.present):
            raise TableError(
                f"photos of item {self.image_ids.values.max()}", f"items up to {len(self.photos.present) - 1}",
                "run `.venv/bin/dvc repro`: prompts and images come from different runs",
            )  # fmt: skip
        return ratio

    def _drop_photos(self) -> None:
        kept = self.sources.values != self.tokens.photo_id
        self.sources, self.words = self.sources.keep(kept), self.words.keep(kept)
        self.image_ids = Ragged(np.zeros(0, np.int32), np.zeros(len(self.sources) + 1, np.int64))
        self.num_visual_tokens = 0
