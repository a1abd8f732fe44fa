"""Which latents have been silent for too long. Counters are tokens of the whole batch, so equal on every worker."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

REFRESH_STEPS = 10
"""The list of the dead is read this often: reading it waits for the device, and AuxK does not mind a stale one.
Resampling does, which would overwrite a latent come alive since, and asks for a new one."""


class DeadLatents:
    """`silent_tokens[i]`: tokens since latent i last fired; `listed`: the dead ones when last listed."""

    def __init__(self, d_sae: int, dead_after_tokens: int, device: torch.device) -> None:
        self.dead_after_tokens = dead_after_tokens
        self.silent_tokens = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.listed: Int64[Tensor, " dead"] = torch.zeros(0, dtype=torch.int64, device=device)

    def update(self, fired: Float[Tensor, " d_sae"], tokens: int) -> None:
        """`fired[i]`: on how many of the step's `tokens` latent i was active."""
        self.silent_tokens.add_(tokens).masked_fill_(fired > 0, 0)

    def refresh(self, step: int) -> Int64[Tensor, " dead"]:
        if step % REFRESH_STEPS == 0:
            self.relist()
        return self.listed

    def relist(self) -> Int64[Tensor, " dead"]:
        self.listed = (self.silent_tokens >= self.dead_after_tokens).nonzero()[:, 0]
        return self.listed

    def fraction(self) -> Float[Tensor, ""]:
        return (self.silent_tokens >= self.dead_after_tokens).float().mean()
