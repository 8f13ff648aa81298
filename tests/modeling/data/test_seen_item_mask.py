"""The training softmax masks items in the prompt, except in prompts with a candidate list."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from features import schema
from features.runtime.stage import Context
from modeling.config.model import Scratch
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.seen_item_mask import MaskedTokens, SeenItemMask, mask_seen_logits
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import train_tokenizer
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import CPU
from modeling.runtime.random_state import seeded
from tests.modeling.world import NUM_ITEMS, NUM_USERS, write_world


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PromptDataset:
    place: Context = write_world(tmp_path_factory.mktemp("world"))
    tokens = VIP5Tokenizer(train_tokenizer(["Here is what user_1 bought : what is next ?"], 120))
    tokens = tokens.with_identifiers([f"<item_{item}>" for item in range(1, NUM_ITEMS + 1)])
    return PromptDataset.load([place.table(f"prompts/train/{family}") for family in schema.FAMILIES], tokens, None)


def test_history_items_are_masked_and_candidates_are_not(corpus: PromptDataset) -> None:
    named = SeenItemMask(corpus)
    history, candidates, explanation = 0, NUM_USERS, 2 * NUM_USERS
    found = named.of(np.array([explanation, history, candidates]), CPU)
    assert found is not None
    assert found.rows.tolist() == [1, 1, 1]
    names = [corpus.tokens.tokenizer.id_to_token(int(token)) for token in found.tokens]
    assert names == ["<item_3>", "<item_4>", "<item_5>"]  # user 1 of the world
    assert named.of(np.array([explanation, candidates]), CPU) is None


def test_the_loss_is_normalised_over_unmasked_tokens() -> None:
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    changed = mask_seen_logits(
        logits.clone(), torch.tensor([0, 0, 1]), MaskedTokens(torch.tensor([1, 1]), torch.tensor([2, 5]))
    )
    torch.testing.assert_close(changed[:2], logits[:2])
    kept = [0, 1, 3, 4]
    expected = F.cross_entropy(logits[2:, kept], torch.tensor([1]))
    torch.testing.assert_close(F.cross_entropy(changed[2:], torch.tensor([1])), expected)


def test_the_model_masks_seen_items(corpus: PromptDataset) -> None:
    scratch = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=1, num_decoder_layers=1)
    with seeded(3, "named items"):
        model = VIP5(new_t5(scratch, vocabulary_size=corpus.tokens.size, dropout=0.0))
    rows = np.array([0])
    batch, masked_tokens = corpus.batch(rows), SeenItemMask(corpus).of(rows, CPU)
    assert masked_tokens is not None
    logits: list[torch.Tensor] = []
    hook = model.t5.lm_head.register_forward_hook(lambda _module, _inputs, output: logits.append(output))
    whole, fewer = (model(batch, None, given).values for given in (None, masked_tokens))
    hook.remove()
    assert fewer[0] < whole[0]  # the same logit, normalised over fewer tokens
    torch.testing.assert_close(fewer[1:], whole[1:])
    assert (logits[1][0, masked_tokens.tokens] < -9e3).all()
