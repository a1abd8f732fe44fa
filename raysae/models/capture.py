"""Read tensors inside a model (`capture`, which stops early) and replace one (`splice`).

Documents are padded on the right: positions count from the left, so that a document's tokens see the same numbers alone
and in a batch. What stands at padded positions has no meaning.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from raysae.errors import BadInput
from raysae.models.families import attention, block, blocks, down_projection, mlp
from raysae.models.registry import ModelRow
from raysae.types import HookPoint
from raysae.types.hookpoint import Site

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Edit = Callable[[Tensor], Tensor | None]
"""Gets the tensor at a hook point; what it returns, if anything, stands in its place."""


class _AllSeen(Exception):
    """Ends the forward pass once every hook point has been read; never leaves this module."""


def capture(
    model: "PreTrainedModel",
    input_ids: Int[Tensor, "b t"],
    attention_mask: Int[Tensor, "b t"],
    hookpoints: Sequence[HookPoint],
) -> dict[HookPoint, Float[Tensor, "b t d"]]:
    """Run the model up to the last of `hookpoints` and return what stood at each, detached, on the model's device.

    Nothing after the last hook point runs. ValueError without hook points; RuntimeError if one was never reached.
    """
    if not hookpoints:
        raise ValueError("capture needs at least one hook point")
    wanted = set(hookpoints)
    seen: dict[HookPoint, Tensor] = {}

    def see(hookpoint: HookPoint, tensor: Tensor) -> None:
        seen[hookpoint] = tensor.detach()
        if len(seen) == len(wanted):
            raise _AllSeen

    handles: list[RemovableHandle] = []
    try:
        for hookpoint in wanted:
            handles.append(_attach(model, hookpoint, partial(see, hookpoint)))
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    except _AllSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) != len(wanted):
        missed = ", ".join(sorted(str(hookpoint) for hookpoint in wanted - seen.keys()))
        raise RuntimeError(f"{type(model).__name__} finished without passing {missed}")
    return {hookpoint: seen[hookpoint] for hookpoint in hookpoints}


@contextmanager
def splice(
    model: "PreTrainedModel",
    hookpoint: HookPoint,
    replace: Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]],
) -> Iterator[None]:
    """While open, the tensor at `hookpoint` is `replace` of itself in every forward pass, in the tensor's own dtype.

    ValueError, out of the forward pass, when `replace` changes the shape.
    """

    def edit(tensor: Tensor) -> Tensor:
        new = replace(tensor)
        if new.shape != tensor.shape:
            raise ValueError(f"splice at {hookpoint}: got shape {tuple(new.shape)}, expected {tuple(tensor.shape)}")
        return new.to(tensor.dtype)

    handle = _attach(model, hookpoint, edit)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def resume(model: "PreTrainedModel", layer: int, hidden: Float[Tensor, "b t d"]) -> Iterator[None]:
    """While open, a forward pass starts behind block `layer`: `hidden` stands as its output, no block before it runs.

    For many edits of one prefix: the logits are those of splicing `hidden` in at `layers.<layer>.resid_post`, at the
    price of the blocks behind it.
    """
    skipped = list(blocks(model))[: layer + 1]
    bare = _returns_bare(model)
    try:
        for block in skipped:
            # An instance attribute shadows the class's method; `__call__` and its hooks stay as they are.
            block.forward = lambda *args, **kwargs: hidden if bare else (hidden,)
        yield
    finally:
        for block in skipped:
            del block.forward


def width(row: ModelRow, hookpoint: HookPoint) -> int:
    """d_in: numbers per token at `hookpoint`."""
    return row.d_mlp if hookpoint.site == "mlp_hidden" else row.d_model


def check_hookpoints(row: ModelRow, hookpoints: Iterable[HookPoint]) -> None:
    """BadInput when a layer is not one of the model's."""
    for hookpoint in hookpoints:
        if not 0 <= hookpoint.layer < row.layers:
            raise BadInput(
                f"capture.hookpoints names {hookpoint}, but {row.name} has {row.layers} layers",
                f"allowed: layers.0 to layers.{row.layers - 1}",
                f"type capture.hookpoints=[layers.{row.probe_layer}.{hookpoint.site}]",
            )


_MODULES: dict[Site, Callable[["PreTrainedModel", int], nn.Module]] = {
    "resid_pre": block,
    "attn_out": attention,
    "mlp_hidden": down_projection,
    "mlp_out": mlp,
    "resid_post": block,
}
_READ: tuple[Site, ...] = ("resid_pre", "mlp_hidden")
"""Sites that stand before their module; the others are what it returns."""


def last_of(hookpoints: Iterable[HookPoint]) -> HookPoint:
    """The one that a forward pass reaches last."""
    order = list(_MODULES)
    return max(hookpoints, key=lambda point: (point.layer, order.index(point.site)))


def place(model: "PreTrainedModel", hookpoint: HookPoint) -> tuple[nn.Module, bool]:
    """The module that a hook point stands at, and whether it is what the module reads, not what it returns."""
    return _MODULES[hookpoint.site](model, hookpoint.layer), hookpoint.site in _READ


def _attach(model: "PreTrainedModel", hookpoint: HookPoint, edit: Edit) -> RemovableHandle:
    module, reads = place(model, hookpoint)
    if reads:
        return module.register_forward_pre_hook(partial(_edit_input, edit))
    return module.register_forward_hook(partial(_edit_output, edit))


def _edit_input(edit: Edit, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    new = edit(args[0])
    return None if new is None else (new, *args[1:])


def _edit_output(edit: Edit, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """An attention returns its output first in a tuple; a block bare or, in some releases of transformers, so too."""
    bare = isinstance(output, Tensor)
    new = edit(output if bare else output[0])
    if new is None:
        return None
    return new if bare else (new, *output[1:])


_BARE: dict[type[nn.Module], bool] = {}


def _returns_bare(model: "PreTrainedModel") -> bool:
    """Whether a block's output is the tensor itself, seen once for a class on one token through the first block."""
    kind = type(blocks(model)[0])
    if kind not in _BARE:
        _BARE[kind] = _look_at_output(model)
    return _BARE[kind]


def _look_at_output(model: "PreTrainedModel") -> bool:
    seen: list[bool] = []

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(isinstance(output, Tensor))
        raise _AllSeen

    handle = blocks(model)[0].register_forward_hook(look)
    try:
        with torch.no_grad():
            one = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
            model(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False)
    except _AllSeen:
        pass
    finally:
        handle.remove()
    return seen[0]
