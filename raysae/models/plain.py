"""Forward passes without hooks, to hold captured ones against: to a hook point and no further, whole, and decoding.

What stands at a hook point is read by a method in the place of the module's own `forward`, which calls it: pytorch's
hooks and the early end of `capture` have no part in it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from raysae.models.capture import last_of, place, splice
from raysae.types import HookPoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

See = Callable[[tuple[Any, ...], Any], None]
"""Gets the arguments of a module's call and what it returned, if it has."""


class _Here(Exception):
    """Ends a forward pass; never leaves this module."""


def run_to(
    model: "PreTrainedModel",
    input_ids: Int[Tensor, "b t"],
    attention_mask: Int[Tensor, "b t"],
    hookpoints: Sequence[HookPoint],
) -> None:
    """Run the model up to the last of `hookpoints`: what reading them cannot do without."""

    def end(arguments: tuple[Any, ...], output: Any) -> None:
        raise _Here

    module, reads = place(model, last_of(hookpoints))
    try:
        with _watched(module, end, before=reads):
            run_whole(model, input_ids, attention_mask)
    except _Here:
        return


@torch.no_grad()
def run_whole(
    model: "PreTrainedModel", input_ids: Int[Tensor, "b t"], attention_mask: Int[Tensor, "b t"]
) -> Float[Tensor, "b t vocab"]:
    """Logits of a whole forward pass."""
    return model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def reference(
    model: "PreTrainedModel",
    input_ids: Int[Tensor, "b t"],
    attention_mask: Int[Tensor, "b t"],
    hookpoints: Sequence[HookPoint],
) -> dict[HookPoint, Float[Tensor, "b t d"]]:
    """What stands at each hook point in a whole forward pass."""
    seen: dict[HookPoint, Tensor] = {}

    def keep(point: HookPoint, reads: bool) -> See:
        def see(arguments: tuple[Any, ...], output: Any) -> None:
            value = arguments[0] if reads else output
            seen[point] = (value[0] if isinstance(value, tuple) else value).clone()

        return see

    with ExitStack() as stack:
        for point in hookpoints:
            module, reads = place(model, point)
            stack.enter_context(_watched(module, keep(point, reads), before=reads))
        run_whole(model, input_ids, attention_mask)
    return {point: seen[point] for point in hookpoints}


def decode(
    model: "PreTrainedModel", prompt: Int[Tensor, "b t"], count: int, hookpoints: Sequence[HookPoint] = ()
) -> tuple[Int[Tensor, "b count"], Float[Tensor, "b count vocab"]]:
    """Greedy decoding: the next tokens and the logits they were chosen by, with hooks at `hookpoints` in every pass."""
    ids, logits = prompt, []
    with ExitStack() as stack:
        for point in hookpoints:
            stack.enter_context(splice(model, point, lambda tensor: tensor))
        for _ in range(count):
            logits.append(run_whole(model, ids, torch.ones_like(ids))[:, -1])
            ids = torch.cat([ids, logits[-1].argmax(dim=-1, keepdim=True)], dim=1)
    return ids[:, prompt.shape[1] :], torch.stack(logits, dim=1)


@contextmanager
def _watched(module: nn.Module, see: See, before: bool) -> Iterator[None]:
    """While open, every call of the module goes past `see`, before or after it is carried out."""
    inside, shadowed = module.forward, "forward" in module.__dict__

    def forward(*arguments: Any, **named: Any) -> Any:
        if before:
            see(arguments, None)
        output = inside(*arguments, **named)
        if not before:
            see(arguments, output)
        return output

    module.forward = forward  # an instance attribute shadows the class's method
    try:
        yield
    finally:
        del module.forward
        if shadowed:
            module.forward = inside
