"""Captured tensors against references taken by hand inside each architecture; what does not run; splicing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from raysae.errors import BadInput
from raysae.models import MODELS
from raysae.models.capture import capture, check_hookpoints, resume, splice, width
from raysae.models.families import attention, blocks, down_projection, mlp
from raysae.types import SITES, HookPoint

IDS = torch.tensor([[3, 5, 7, 9, 11], [2, 4, 6, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
ALL = [HookPoint.parse(f"layers.{layer}.{site}") for layer in range(3) for site in SITES]


def run(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK, use_cache=False).logits


def running(modules: dict[str, nn.Module], during: Callable[[], Any]) -> list[str]:
    """Names of the modules whose own forward was entered, each as often as it was."""
    entered: list[str] = []

    def watch(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            entered.append(name)
            return forward(*args, **kwargs)

        return watched

    for name, module in modules.items():
        module.forward = watch(name, module.forward)  # type: ignore[method-assign]
    during()
    for module in modules.values():
        module.__dict__.pop("forward")
    return entered


def hooks_left(model: PreTrainedModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def by_hand(model: PreTrainedModel) -> dict[HookPoint, Tensor]:
    """What stands at each hook point, read by replacing the forward methods themselves in a whole forward pass."""
    seen: dict[HookPoint, Tensor] = {}

    def watch(module: nn.Module, point: HookPoint, of_input: bool) -> None:
        forward = module.forward

        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            value = args[0] if of_input else output
            seen[point] = (value[0] if isinstance(value, tuple) else value).clone()
            return output

        module.forward = watched  # type: ignore[method-assign]

    for point in ALL:
        of_input = point.site in ("mlp_hidden", "resid_pre")
        watch(
            {
                "mlp_hidden": down_projection(model, point.layer),
                "mlp_out": mlp(model, point.layer),
                "attn_out": attention(model, point.layer),
            }.get(point.site, blocks(model)[point.layer]),
            point,
            of_input,
        )
    run(model)
    for module in model.modules():
        module.__dict__.pop("forward", None)
    return seen


def test_captured_tensors_are_the_models_own_bit_for_bit(model: PreTrainedModel) -> None:
    expected = by_hand(model)
    got = capture(model, IDS, MASK, ALL)
    assert list(got) == ALL
    for point in ALL:
        assert torch.equal(got[point], expected[point]), point
        assert not got[point].requires_grad
    assert hooks_left(model) == 0


def test_resid_post_of_inner_layers_is_the_hidden_state_and_of_the_last_is_not(model: PreTrainedModel) -> None:
    with torch.no_grad():
        states = model(input_ids=IDS, attention_mask=MASK, use_cache=False, output_hidden_states=True).hidden_states
    got = capture(model, IDS, MASK, ALL)
    for layer in (0, 1):
        assert torch.equal(got[HookPoint(layer=layer, site="resid_post")], states[layer + 1])
    assert not torch.equal(got[HookPoint(layer=2, site="resid_post")], states[-1])


def test_a_block_reads_the_state_before_it_and_adds_what_attention_and_mlp_say(model: PreTrainedModel) -> None:
    with torch.no_grad():
        states = model(input_ids=IDS, attention_mask=MASK, use_cache=False, output_hidden_states=True).hidden_states
    got = capture(model, IDS, MASK, ALL)
    for layer in range(3):
        pre, attn, out, post = (
            got[HookPoint(layer=layer, site=site)] for site in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        assert torch.equal(pre, states[layer])
        torch.testing.assert_close(pre + attn + out, post)


def test_mlp_out_is_the_down_projection_of_mlp_hidden(model: PreTrainedModel) -> None:
    hidden, out = (HookPoint(layer=1, site=site) for site in ("mlp_hidden", "mlp_out"))
    got = capture(model, IDS, MASK, [hidden, out])
    with torch.no_grad():
        assert torch.equal(down_projection(model, 1)(got[hidden]), got[out])


def test_nothing_runs_after_the_last_hook_point(model: PreTrainedModel) -> None:
    modules: dict[str, nn.Module] = {f"block {i}": block for i, block in enumerate(blocks(model))}
    modules |= {"down": down_projection(model, 1), "head": model.get_output_embeddings()}

    def entered(*points: str) -> list[str]:
        return running(modules, lambda: capture(model, IDS, MASK, [HookPoint.parse(point) for point in points]))

    assert entered("layers.0.resid_post") == ["block 0"]
    assert entered("layers.1.mlp_hidden", "layers.0.mlp_out") == ["block 0", "block 1"]
    assert entered("layers.0.resid_post", "layers.1.resid_post") == ["block 0", "block 1", "down"]
    assert "head" not in entered("layers.2.resid_post")


def test_a_documents_activations_do_not_depend_on_its_padding(model: PreTrainedModel) -> None:
    (point,) = points = [HookPoint(layer=2, site="resid_post")]
    alone = capture(model, IDS[1:, :3], MASK[1:, :3], points)[point]
    together = capture(model, IDS, MASK, points)[point]
    torch.testing.assert_close(together[1:, :3], alone)


def test_capture_refuses_no_hook_points_and_cleans_up_after_an_error(model: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="at least one"):
        capture(model, IDS, MASK, [])
    with pytest.raises(IndexError):
        capture(model, IDS + 1000, MASK, ALL)
    with pytest.raises(IndexError):
        capture(model, IDS, MASK, [*ALL, HookPoint(layer=9, site="mlp_out")])
    assert hooks_left(model) == 0


def test_a_hook_point_that_is_never_passed_is_an_error(model: PreTrainedModel) -> None:
    blocks(model)[1].forward = lambda hidden, *_, **__: hidden  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"without passing layers\.1\.mlp_out"):
        capture(model, IDS, MASK, [HookPoint(layer=0, site="mlp_out"), HookPoint(layer=1, site="mlp_out")])


@pytest.mark.parametrize("site", SITES)
def test_an_identity_splice_changes_nothing_and_zeros_change_the_logits(model: PreTrainedModel, site: Any) -> None:
    point, before = HookPoint(layer=1, site=site), run(model)
    shapes: list[tuple[int, ...]] = []

    def same(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor.double()

    with splice(model, point, same):
        assert torch.equal(run(model), before)
    with splice(model, point, torch.zeros_like):
        assert not torch.allclose(run(model), before)
    assert torch.equal(run(model), before)
    assert shapes == [tuple(capture(model, IDS, MASK, [point])[point].shape)]
    assert hooks_left(model) == 0


def test_what_is_spliced_in_is_what_the_rest_of_the_model_sees(model: PreTrainedModel) -> None:
    point = HookPoint(layer=0, site="resid_post")
    donor = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    after = HookPoint(layer=1, site="resid_post")
    with splice(model, point, lambda _: donor):
        spliced = capture(model, IDS, MASK, [after])[after]
    with splice(model, point, lambda _: donor), splice(model, after, torch.clone):
        assert torch.equal(capture(model, IDS, MASK, [after])[after], spliced)
    assert not torch.equal(spliced, capture(model, IDS, MASK, [after])[after])


def test_a_splice_of_another_shape_is_an_error_and_leaves_no_hook(model: PreTrainedModel) -> None:
    with (
        pytest.raises(ValueError, match=r"layers\.1\.mlp_out: got shape \(2, 5, 1\)"),
        splice(model, HookPoint(layer=1, site="mlp_out"), lambda tensor: tensor[..., :1]),
    ):
        run(model)
    assert hooks_left(model) == 0


def test_widths_are_those_of_the_tensors() -> None:
    row = MODELS["gpt2"]
    assert [width(row, HookPoint(layer=0, site=site)) for site in SITES] == [768, 3072, 768, 768, 768]


@pytest.mark.parametrize("layer", [12, 99])
def test_a_layer_out_of_range_is_refused_with_what_to_type(layer: int) -> None:
    check_hookpoints(MODELS["gpt2"], [HookPoint(layer=11, site="mlp_out")])
    with pytest.raises(
        BadInput, match=r"gpt2 has 12 layers; allowed: layers\.0 to layers\.11; type .*layers\.6\.mlp_out"
    ):
        check_hookpoints(MODELS["gpt2"], [HookPoint(layer=layer, site="mlp_out")])


@pytest.mark.parametrize("layer", [0, 1])
def test_resuming_behind_a_block_is_splicing_there_without_running_what_lies_before(
    model: PreTrainedModel, layer: int
) -> None:
    ids = torch.randint(0, model.config.vocab_size, (2, 7), generator=torch.Generator().manual_seed(3))
    point = HookPoint(layer=layer, site="resid_post")
    hidden = capture(model, ids, torch.ones_like(ids), (point,))[point] + 0.5
    ran: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda module, args, i=i: ran.append(i))
        for i, block in enumerate(blocks(model))
    ]
    with torch.no_grad():
        with splice(model, point, lambda _: hidden):
            spliced = model(ids, use_cache=False).logits
        attention = [
            module for block in blocks(model)[: layer + 1] for module in block.modules() if module is not block
        ]
        inner: list[object] = []
        handles += [module.register_forward_pre_hook(lambda module, args: inner.append(module)) for module in attention]
        with resume(model, layer, hidden):
            resumed = model(ids, use_cache=False).logits
        seen = set(map(id, inner))
        again = model(ids, use_cache=False).logits
        for handle in handles:
            handle.remove()
    assert torch.equal(resumed, spliced)
    assert not torch.equal(again, spliced), "the block was left replaced"
    assert all(
        not any(id(m) in seen for m in block.modules() if m is not block) for block in blocks(model)[1 : layer + 1]
    )
