"""Encodes text as token ids, whole-word ids and category ids, as T5 and VIP5 define them.

Reads the texts of prompt tables; returns ragged arrays of token ids and whole-word ids.
Trade-off: a text is split at photo placeholders and item identifiers and each distinct piece is encoded once, because
candidate lists consist of short pieces that the whole dataset shares.

Layout of the vocabulary: 0 padding, 1 end of sequence, 2 unknown; the sentinels `<extra_id_k>` count down from the
top of the base vocabulary (32,099 for `<extra_id_0>` with T5's own); item identifiers such as `<item_17>` follow.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from features.errors import InputError, ModelError
from modeling.data.ragged import Ragged, offsets_of

PHOTO = "<extra_id_0>"
WORD_MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece marks the start of a word with it
WHOLE_WORDS, CATEGORIES = 1024, 16
TOKENIZER_FILE = "tokenizer.json"
IDENTIFIER = re.compile(r"<[a-z]+_\d+>")
_CUT = re.compile(r"(<extra_id_\d+>|<[a-z]+_\d+>)")
_CONTINUES = re.compile(r"[^\W_]|['\N{RIGHT SINGLE QUOTATION MARK}-]")
_CHUNK = 20_000  # texts encoded at a time


@dataclass(frozen=True)
class Encoded:
    """An encoded text: three arrays of the same length, including the end of sequence."""

    input_ids: Int32[np.ndarray, "S"]
    whole_word_ids: Int32[np.ndarray, "S"]
    """Number of the word of each token, from 1; 0 for the end of sequence."""
    category_ids: Int32[np.ndarray, "S"]
    """1 for photo placeholders, else 0."""


class VIP5Tokenizer:
    """A T5 tokenizer whose vocabulary includes the item identifiers of a dataset.

    Args:
        tokenizer: a `tokenizers.Tokenizer` that has the sentinels `<extra_id_k>`.
        max_source_tokens: maximum encoder input, including the end of sequence; at most 1,024 (whole-word ids).
        truncate: treatment of longer sources: "never" raises an error, "end" cuts the end off as in the paper, "oldest"
            raises an error for sources that are too long after `PromptDataset` has dropped their oldest items.
    """

    pad_id, eos_id, unk_id = 0, 1, 2

    def __init__(self, tokenizer: Any, *, max_source_tokens: int = 1024, truncate: str = "never") -> None:
        self.tokenizer, self.max_source_tokens, self.truncate = tokenizer, max_source_tokens, truncate
        photo_id = tokenizer.token_to_id(PHOTO)
        if photo_id is None:
            raise InputError(f"a tokenizer without {PHOTO}", "T5's sentinels in tokenizer.json", "choose another")
        layout = [tokenizer.token_to_id(name) for name in ("<pad>", "</s>", "<unk>")]
        if layout != [self.pad_id, self.eos_id, self.unk_id]:
            raise InputError(
                f"a tokenizer with <pad>, </s> and <unk> at {layout}", "[0, 1, 2] as in T5", "choose another"
            )
        self.photo_id: int = photo_id
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._specials = {text: token for text, token in vocabulary.items() if _CUT.fullmatch(text)}
        identifiers = [token for text, token in vocabulary.items() if IDENTIFIER.fullmatch(text)]
        self.identifier_ids: Int32[np.ndarray, "N"] = np.sort(np.array(identifiers, np.int32))
        """Ids of all item identifier tokens, ascending."""
        apart = {self.pad_id, self.eos_id, self.unk_id, *self._specials.values()}
        self.word_ids: Int32[np.ndarray, "N"] = np.array(sorted(set(vocabulary.values()) - apart), np.int32)
        """Ids of all tokens of plain text, ascending."""
        texts = {token: text for text, token in vocabulary.items()}
        inside = [token for token in self.word_ids.tolist() if _CONTINUES.match(texts[token])]
        self.continuation_ids: Int32[np.ndarray, "N"] = np.array(inside, np.int32)
        """Ids of the tokens of plain text that continue the preceding word, ascending: "ing", "'s", "-", "2"."""
        self._is_identifier = np.zeros(self.size, bool)
        self._is_identifier[self.identifier_ids] = True
        self._starts_word = np.zeros(self.size, bool)
        marked = [token for text, token in vocabulary.items() if text.startswith(WORD_MARK)]
        self._starts_word[marked] = True
        self._starts_word[self.photo_id] = True

    @classmethod
    def load(cls, folder: Path, *, max_source_tokens: int = 1024, truncate: str = "never") -> "VIP5Tokenizer":
        """Loads `folder/tokenizer.json`; adds the photo placeholder to a tokenizer without sentinels, such as mT5's.

        Raises:
            ModelError: the file does not exist.
        """
        from tokenizers import AddedToken, Tokenizer

        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise ModelError(
                f"no {path}", "a tokenizer in the format of the tokenizers library", "run `.venv/bin/dvc repro`"
            )
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()  # which a published file may have switched on
        tokenizer.no_padding()
        if tokenizer.token_to_id(PHOTO) is None:
            tokenizer.add_special_tokens([AddedToken(PHOTO, normalized=False)])
        return cls(tokenizer, max_source_tokens=max_source_tokens, truncate=truncate)

    def save(self, folder: Path) -> None:
        """Writes `folder/tokenizer.json`."""
        self.tokenizer.save(str(folder / TOKENIZER_FILE))

    def with_identifiers(self, texts: Iterable[str]) -> "VIP5Tokenizer":
        """Returns a copy with a new token for every distinct `<letters_digits>` in `texts`, in sorted order.

        Example:
            texts ["<item_2>", "<item_10>"] with T5's vocabulary: `<item_10>` is 32,100 and `<item_2>` 32,101.
        """
        from tokenizers import AddedToken, Tokenizer

        names = sorted({name for text in texts for name in IDENTIFIER.findall(text)})
        grown = Tokenizer.from_str(self.tokenizer.to_str())
        grown.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])
        return VIP5Tokenizer(grown, max_source_tokens=self.max_source_tokens, truncate=self.truncate)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encodes sources for the encoder.

        Example (T5's vocabulary):
            "28 <extra_id_0> , 149" -> input_ids [2059, 32099, 3, 6, 3, 24748, 1] (in outline),
            whole_word_ids [1, 2, 3, 3, 4, 4, 0], category_ids [0, 1, 0, 0, 0, 0, 0].
        """
        ids, words = self.encode_sources(texts)
        return [
            Encoded(ids.row(i), words.row(i), (ids.row(i) == self.photo_id).astype(np.int32)) for i in range(len(texts))
        ]

    def encode_sources(self, texts: Sequence[str]) -> tuple[Ragged, Ragged]:
        """Encodes all `texts` as ragged token ids and whole-word ids; category ids are `ids == photo_id`.

        Raises:
            InputError: a text exceeds `max_source_tokens` and must not be truncated.
        """
        parts = [self._flat(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
        pieces = Ragged.concatenate(parts) if parts else Ragged.from_rows([])
        if self.truncate != "end" and pieces.lengths.max(initial=0) + 1 > self.max_source_tokens:
            row = int(pieces.lengths.argmax())
            raise InputError(
                f"a source of {pieces.lengths[row] + 1} tokens ({texts[row][:60]!r}...)",
                f"at most {self.max_source_tokens} (backbone.max_source_tokens)",
                "set backbone.truncate to end (or to oldest: shorter histories), or lower prompts.max_history",
            )
        ids = self._ended(pieces, self.max_source_tokens, self.eos_id)
        starts = self._starts_word[ids.values]
        named = self._is_identifier[ids.values]
        # An identifier may have several tokens (<a_3><b_1>); the first starts the word.
        starts |= named & ~np.concatenate([[False], named[:-1]])
        counted = np.cumsum(starts, dtype=np.int64)
        before = np.concatenate([[0], counted])[ids.offsets[:-1]]
        words = (counted - np.repeat(before, ids.lengths)).astype(np.int32)
        words[ids.offsets[1:] - 1] = 0
        return ids, Ragged(words, ids.offsets)

    def fits(self, text: str) -> bool:
        """Returns whether `text` has at most `max_source_tokens` tokens, including the end of sequence."""
        return len(self._flat([text]).values) + 1 <= self.max_source_tokens

    def encode_targets(self, texts: Sequence[str], max_tokens: int) -> list[Int32[np.ndarray, "_"]]:
        """Encodes targets, truncated to `max_tokens` including the end of sequence."""
        flat = self.encode_target_rows(texts, max_tokens)
        return [flat.row(i) for i in range(len(texts))]

    def encode_target_rows(self, texts: Sequence[str], max_tokens: int) -> Ragged:
        """As `encode_targets`, as a ragged array."""
        parts = [self._flat(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
        return self._ended(Ragged.concatenate(parts) if parts else Ragged.from_rows([]), max_tokens, self.eos_id)

    def decode(self, ids: Iterable[int] | Int[np.ndarray, "T"]) -> str:
        """Decodes `ids` up to the first end of sequence, skipping padding and sentinels."""
        tokens: list[int] = []
        for token in ids:
            if token == self.eos_id:
                break
            tokens.append(int(token))
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _flat(self, texts: Sequence[str]) -> Ragged:
        """Token ids without the end of sequence; encodes every distinct piece once."""
        numbers: dict[str, int] = {}
        cuts = [self._cut(text) for text in texts]
        per_text = Ragged.from_rows([[numbers.setdefault(piece, len(numbers)) for piece in cut] for cut in cuts])
        unique = list(numbers)
        plain = [piece for piece in unique if piece not in self._specials]
        encoded = iter(self.tokenizer.encode_batch(plain, add_special_tokens=False))
        table = Ragged.from_rows(
            [[self._specials[piece]] if piece in self._specials else next(encoded).ids for piece in unique]
        )
        tokens = table.take(per_text.values)
        return Ragged(tokens.values, tokens.offsets[per_text.offsets])

    def _cut(self, text: str) -> list[str]:
        """Splits `text` into sentinels, identifiers and the stripped text between them."""
        parts = _CUT.split(text)
        if len(parts) == 1:
            return [text.strip()]
        unknown = [i for i in range(1, len(parts), 2) if parts[i] not in self._specials]
        for i in reversed(unknown):  # text that looks like a token but is not in the vocabulary stays text
            parts[i - 1 : i + 2] = ["".join(parts[i - 1 : i + 2])]
        return [piece for part in parts if (piece := part.strip())]

    @staticmethod
    def _ended(rows: Ragged, max_tokens: int, eos_id: int) -> Ragged:
        """Truncates each row to `max_tokens - 1` tokens and appends `eos_id`."""
        lengths = np.minimum(rows.lengths, max_tokens - 1)
        offsets = offsets_of(lengths + 1)
        values = np.full(offsets[-1], eos_id, np.int32)
        start = offsets_of(lengths)[:-1]
        inside = np.arange(lengths.sum()) - np.repeat(start, lengths)
        values[inside + np.repeat(offsets[:-1], lengths)] = rows.values[inside + np.repeat(rows.offsets[:-1], lengths)]
        return Ragged(values, offsets)
