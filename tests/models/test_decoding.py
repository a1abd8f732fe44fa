"""Greedy continuation: a text goes on in a batch as it does alone, and with what is spliced in."""

import pytest
import torch
from transformers import PreTrainedModel

from raysae.models.capture import splice
from raysae.models.decoding import continue_greedily
from raysae.models.plain import decode
from raysae.types import HookPoint
from tests.models.conftest import small

PROMPTS = [[3, 4, 5], [7], [9, 8, 7, 6, 5, 4, 3], [2, 2]]
POINT = HookPoint(layer=1, site="resid_post")


def never(ids: list[int]) -> bool:
    return False


def alone(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """Without a cache and without padding."""
    return decode(model, torch.tensor([prompt]), count)[0][0].tolist()


def test_every_text_continues_as_it_does_alone(model: PreTrainedModel) -> None:
    assert continue_greedily(model, PROMPTS, 12, never) == [alone(model, prompt, 12) for prompt in PROMPTS]


def test_an_edit_holds_for_prompt_and_continuation(model: PreTrainedModel) -> None:
    push = torch.randn(16, generator=torch.Generator().manual_seed(1)) * 5
    with splice(model, POINT, lambda hidden: hidden + push):
        found = continue_greedily(model, PROMPTS, 8, never)
        assert found == [alone(model, prompt, 8) for prompt in PROMPTS]
    assert found != [alone(model, prompt, 8) for prompt in PROMPTS]


@pytest.mark.parametrize("length", [1, 3])
def test_a_text_ends_where_it_is_told_to(length: int) -> None:
    found = continue_greedily(small("GPT2LMHeadModel"), PROMPTS, 9, lambda ids: len(ids) == length)
    assert [len(ids) for ids in found] == [length] * 4
