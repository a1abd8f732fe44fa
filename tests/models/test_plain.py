"""Forward passes without hooks: what they read, where they end, and that they leave the model as it was."""

import pytest
import torch
from transformers import PreTrainedModel

from raysae.models.capture import capture, last_of
from raysae.models.families import attention, blocks, down_projection, mlp
from raysae.models.plain import decode, reference, run_to, run_whole
from raysae.types import SITES, HookPoint
from tests.models.test_capture import ALL, IDS, MASK, hooks_left, running


def untouched(model: PreTrainedModel) -> bool:
    return hooks_left(model) == 0 and not any("forward" in module.__dict__ for module in model.modules())


def test_the_reference_is_what_capture_reads_bit_for_bit(model: PreTrainedModel) -> None:
    before = run_whole(model, IDS, MASK)
    expected, found = reference(model, IDS, MASK, ALL), capture(model, IDS, MASK, ALL)
    assert list(expected) == ALL
    assert all(torch.equal(expected[point], found[point]) for point in ALL)
    assert untouched(model) and torch.equal(run_whole(model, IDS, MASK), before)


@pytest.mark.parametrize("site", SITES)
def test_a_run_to_a_hook_point_enters_what_capture_enters(model: PreTrainedModel, site: str) -> None:
    point = HookPoint.parse(f"layers.1.{site}")
    parts = {"head": model.get_output_embeddings()}
    for i, block in enumerate(blocks(model)):
        parts |= {f"block {i}": block, f"attention {i}": attention(model, i), f"mlp {i}": mlp(model, i)}
        parts[f"down {i}"] = down_projection(model, i)
    bare = running(parts, lambda: run_to(model, IDS, MASK, [ALL[0], point]))
    captured = running(parts, lambda: capture(model, IDS, MASK, [ALL[0], point]))
    # Capture ends before a module whose input it reads; so does the bare run, from within its call.
    assert [name for name in bare if name in captured] == captured
    assert untouched(model)


def test_the_last_hook_point_is_the_one_a_pass_reaches_last(model: PreTrainedModel) -> None:
    reached = list(capture(model, IDS, MASK, ALL))
    assert set(reached) == set(ALL)
    assert last_of(reversed(ALL)) == HookPoint.parse("layers.2.resid_post")
    assert last_of([HookPoint.parse("layers.1.mlp_out"), HookPoint.parse("layers.1.attn_out")]).site == "mlp_out"
    assert last_of([HookPoint.parse("layers.1.resid_pre"), HookPoint.parse("layers.0.resid_post")]).layer == 1


def test_greedy_decoding_takes_the_likeliest_token_each_time(model: PreTrainedModel) -> None:
    ids, logits = decode(model, IDS, 3)
    text = IDS
    for step in range(3):
        with torch.no_grad():
            expected = model(text, attention_mask=torch.ones_like(text), use_cache=False).logits[:, -1]
        assert torch.equal(logits[:, step], expected) and torch.equal(ids[:, step], expected.argmax(dim=1))
        text = torch.cat([text, ids[:, step : step + 1]], dim=1)
    hooked = decode(model, IDS, 3, ALL)
    assert torch.equal(hooked[0], ids) and torch.equal(hooked[1], logits)


def test_a_run_that_breaks_off_leaves_no_method_behind(model: PreTrainedModel) -> None:
    with pytest.raises(IndexError):
        reference(model, torch.full((1, 2), 99), torch.ones((1, 2), dtype=torch.int64), ALL)
    assert untouched(model)
