"""Numbers of a run at work for Prometheus, through Ray's own exporter: how fast, what waits, how good.

They exist where Ray does: with RAYSAE_LOCAL=1, and before Ray is started, nothing is imported and nothing counted. Ray
puts `ray_` before every name and `_total` behind a counter's, so tokens a second are
`rate(ray_raysae_tokens_total[1m])`.
"""

import sys
from functools import cache
from typing import Any


def count_tokens(stage: str, tokens: int) -> None:
    """So many tokens more have been through the model (`capture`) or into SAEs (`train`)."""
    if _connected():
        _metric("Counter", "raysae_tokens", "Tokens that a stage has read.", "stage").inc(tokens, {"stage": stage})


def show_queue(worker: str, waiting: int) -> None:
    """Units of work that no actor of this kind has answered yet."""
    if _connected():
        said = "Units of work that no actor has answered yet."
        _metric("Gauge", "raysae_queue_depth", said, "worker").set(waiting, {"worker": worker})


def show_training(sae: str, loss: float, fvu: float) -> None:
    """Of one SAE, over its steps since the last call."""
    if _connected():
        _metric("Gauge", "raysae_loss", "Training loss.", "sae").set(loss, {"sae": sae})
        _metric("Gauge", "raysae_fvu", "Fraction of variance unexplained.", "sae").set(fvu, {"sae": sae})


def _connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@cache
def _metric(kind: str, name: str, said: str, tag: str) -> Any:
    import ray.util.metrics

    return getattr(ray.util.metrics, kind)(name, description=said, tag_keys=(tag,))
