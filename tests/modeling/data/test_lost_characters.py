"""Characters that the tokenizer does not know are named in one line."""

import logging
from pathlib import Path

import pytest

from modeling.data.lost_characters import lost_characters, warn_of_lost_characters
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import train_tokenizer
from modeling.training.run_files import prompt_tables
from tests.modeling.world import NUM_ITEMS, write_world


def dataset(root: Path, texts: list[str]) -> PromptDataset:
    place = write_world(root, with_language=True)
    identifiers = [f"<item_{item}>" for item in range(1, NUM_ITEMS + 1)]
    tokens = VIP5Tokenizer(train_tokenizer(texts, 120)).with_identifiers(identifiers)
    return PromptDataset.load(prompt_tables(place, "train", ["language"]), tokens, None)


LETTERS = "Write about the box of number 0 1 2 3 4 5 6 7 8 9 is flat . Title Small Lamp ?"


def test_a_missing_letter_is_named_with_its_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vip5"):
        warn_of_lost_characters(dataset(tmp_path, [LETTERS.replace("x", "").replace("p", "")]))
    [line] = caplog.messages
    assert "% of the tokens" in line
    assert f"'x' ({2 * NUM_ITEMS}) 'p' ({NUM_ITEMS});" in line


def test_nothing_is_said_of_a_tokenizer_that_knows_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vip5"):
        warn_of_lost_characters(dataset(tmp_path, [LETTERS]))
    assert caplog.messages == []


def test_spaces_are_never_lost() -> None:
    tokens = VIP5Tokenizer(train_tokenizer([LETTERS], 120))
    assert lost_characters(["the\tbox \u00e9t\u00e9"], tokens) == {"\u00e9": 2}
