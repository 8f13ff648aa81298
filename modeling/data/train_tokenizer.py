"""Trains a T5-like tokenizer on the train prompts if no pretrained one is configured.

Reads texts; returns a `tokenizers.Tokenizer`: 0 padding, 1 end of sequence, 2 unknown, pieces, 100 sentinels.
Trade-off: SentencePiece trains the pieces, in one thread for reproducibility, and the tokenizers library applies them;
the Unigram trainer of the tokenizers library is not reproducible.
"""

import io
import re
from collections.abc import Iterable
from typing import Any

from features.errors import TrainingError
from modeling.data.tokenizer import IDENTIFIER, WORD_MARK

NUM_SENTINELS = 100
_SPECIAL = re.compile(rf"<extra_id_\d+>|{IDENTIFIER.pattern}")
_NEEDED = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def _refused(num_texts: int, vocabulary_size: int, reason: str) -> TrainingError:
    """The error of SentencePiece with the vocabulary size that its reason says is needed."""
    if (needed := _NEEDED.search(reason)) is not None:
        return TrainingError(
            f"texts whose letters need {needed[1]} pieces, more than backbone.vocabulary_size {vocabulary_size}",
            "a piece for every letter",
            f"set backbone.vocabulary_size to {needed[1]}, or more for pieces of several letters",
        )
    return TrainingError(
        f"{num_texts} pieces of text, too few to train a tokenizer ({reason})",
        "prompts with text",
        "name a tokenizer folder in backbone.tokenizer, or use a larger dump",
    )


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Any:
    """Trains a Unigram tokenizer of at most `vocabulary_size` pieces and 100 sentinels.

    Args:
        texts: sources and targets; photo placeholders and item identifiers are removed.
        vocabulary_size: maximum number of pieces, including padding, end of sequence and unknown.

    Raises:
        TrainingError: there are no texts, or they have more letters than the vocabulary has pieces.
    """
    import sentencepiece

    pieces = sorted({stripped for text in texts for piece in _SPECIAL.split(text) if (stripped := piece.strip())})
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(pieces),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            character_coverage=0.9999,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            shuffle_input_sentence=False,
            max_sentence_length=16_384,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _refused(len(pieces), vocabulary_size, str(error)) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    size = processor.get_piece_size()
    return assemble([(processor.id_to_piece(i), float(processor.get_score(i))) for i in range(size)])


def assemble(vocabulary: list[tuple[str, float]]) -> Any:
    """Builds the tokenizer of a SentencePiece `vocabulary` (piece and log-probability by id) and 100 sentinels."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=WORD_MARK, prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=WORD_MARK, prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in ("<pad>", "</s>", "<unk>")])
    sentinels = [f"<extra_id_{k}>" for k in range(NUM_SENTINELS - 1, -1, -1)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in sentinels])
    return tokenizer
