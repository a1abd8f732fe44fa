"""Packed edits against one plain forward pass per edit, in every architecture and at every site."""

import pytest
import torch
from transformers import PreTrainedModel

from raysae.models.capture import capture, splice
from raysae.models.patch import edited_logits, reach, residual_step
from raysae.types import HookPoint
from raysae.types.hookpoint import LINEAR_SITES

IDS = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.tensor([2, 5, 0])


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("site", LINEAR_SITES)
def test_packed_edits_are_those_of_one_forward_pass_each(model: PreTrainedModel, site: str, layer: int) -> None:
    point, mask = HookPoint.parse(f"layers.{layer}.{site}"), torch.ones_like(IDS)
    d_in = capture(model, IDS, mask, [point])[point].shape[-1]
    delta = torch.randn(3, 4, d_in, generator=torch.Generator().manual_seed(1))
    block = HookPoint(layer=layer, site="resid_post")
    with torch.no_grad():
        hidden = capture(model, IDS, mask, [block])[block]
        found = edited_logits(model, layer, hidden, POSITIONS, residual_step(model, point, delta), window=5)
        assert found.shape == (3, 4, 1 if layer == 2 else 5, 50)
        for text, position in enumerate(POSITIONS.tolist()):
            for edit in range(4):

                def edited(tensor: torch.Tensor, at: int = position, step: torch.Tensor = delta[text, edit]):
                    tensor = tensor.clone()
                    tensor[0, at] += step
                    return tensor

                with splice(model, point, edited):
                    plain = model(IDS[text : text + 1], use_cache=False).logits[0]
                expected = plain[position : position + found.shape[2]]
                torch.testing.assert_close(found[text, edit], expected, rtol=1e-4, atol=1e-5)


def test_an_edit_of_the_last_block_reaches_one_prediction(model: PreTrainedModel) -> None:
    assert [reach(model, layer, 8) for layer in range(3)] == [8, 8, 1]


@pytest.mark.parametrize("site", LINEAR_SITES)
def test_a_model_in_bfloat16_takes_edits_in_float32(model: PreTrainedModel, site: str) -> None:
    model.to(torch.bfloat16)
    point, block, mask = (
        HookPoint.parse(f"layers.1.{site}"), HookPoint(layer=1, site="resid_post"), torch.ones_like(IDS),
    )  # fmt: skip
    d_in = capture(model, IDS, mask, [point])[point].shape[-1]
    delta = torch.stack([torch.zeros(3, d_in), torch.full((3, d_in), 0.5)], dim=1)
    with torch.no_grad():
        hidden = capture(model, IDS, mask, [block])[block]
        found = edited_logits(model, 1, hidden, POSITIONS, residual_step(model, point, delta), window=3)
        plain = model(IDS, use_cache=False).logits
    assert found.dtype == torch.bfloat16
    for text, position in enumerate(POSITIONS.tolist()):
        torch.testing.assert_close(found[text, 0], plain[text, position : position + 3], rtol=0.05, atol=0.02)
    assert not torch.equal(found[:, 0], found[:, 1])


def test_logits_have_a_gradient_in_the_edit(model: PreTrainedModel) -> None:
    model.double()
    point = HookPoint(layer=1, site="resid_post")
    hidden = capture(model, IDS, torch.ones_like(IDS), [point])[point]
    delta = torch.zeros(3, 1, 16, dtype=torch.float64, requires_grad=True)
    score = edited_logits(model, 1, hidden, POSITIONS, delta, window=3)[..., 7].sum()
    (gradient,) = torch.autograd.grad(score, delta)
    step = 1e-4 * torch.randn(3, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ends = [edited_logits(model, 1, hidden, POSITIONS, sign * step, window=3)[..., 7].sum() for sign in (1, -1)]
    assert float((ends[0] - ends[1]) / 2) == pytest.approx(float((gradient * step).sum()), rel=1e-2)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out"])
def test_what_passes_a_non_linear_map_is_not_packed(model: PreTrainedModel, site: str) -> None:
    with pytest.raises(ValueError, match=f"layers.1.{site} does not enter its block's output linearly"):
        residual_step(model, HookPoint.parse(f"layers.1.{site}"), torch.zeros(1, 16))
