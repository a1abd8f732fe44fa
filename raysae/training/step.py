"""One training step of one SAE, without autograd: `differentiate` a shard, sum the shards, `update`.

Everything a step must sum over shards and workers, gradients and statistics alike, lies in one flat buffer
(`StepSums`), so that it is one reduction, and so that the sum does not depend on which worker held which shard.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from raysae.saes import SparseAutoencoder
from raysae.training.guides import Guides, LinearProbe, label_probe, temporal
from raysae.training.kernels import Precision, encode, products
from raysae.training.losses import aux_k, gate_path
from raysae.training.optim import CLIP_NORM
from raysae.types.learning import LossConfig

TERMS = ("reconstruction", "l1", "l0_loss", "gate", "aux", "temporal", "probe")
"""What a shard's part of the loss is the sum of."""
STATISTICS = (*TERMS, "squared_error", "variance", "active", "labelled", "named", "cut")


class StepSums:
    """`flat` float32 [n]; the rest are views of it, the gradients of the SAE's parameters first."""

    def __init__(self, sae: SparseAutoencoder, probe: LinearProbe | None = None) -> None:
        # W_enc is stored by latent (see SparseAutoencoder), and so is its gradient
        shapes = {name: (p.T if name == "W_enc" else p).shape for name, p in sae.named_parameters()}
        trained = len(shapes)
        shapes |= {f"probe.{name}": p.shape for name, p in (probe.named_parameters() if probe else ())}
        shapes |= {"fired": torch.Size([sae.d_sae]), "statistics": torch.Size([len(STATISTICS)])}
        # each view starts on a 64-byte boundary: products written to it then have the bits of a tensor of its own
        sizes = [-(-shape.numel() // 16) * 16 for shape in shapes.values()]
        self.flat = torch.zeros(sum(sizes), device=sae.W_enc.device)
        parts = zip(self.flat.split(sizes), shapes.items(), strict=True)
        views = {name: part[: shape.numel()].view(shape) for part, (name, shape) in parts}
        self.fired, self.statistics = views.pop("fired"), views.pop("statistics")
        self.W_enc_rows, self.W_dec, self.b_enc, self.b_dec = (views[n] for n in ("W_enc", "W_dec", "b_enc", "b_dec"))
        self.W_enc = self.W_enc_rows.T
        self.of_probe = {name: views.pop(f"probe.{name}") for name, _ in (probe.named_parameters() if probe else ())}
        self.of = views | {"W_enc": self.W_enc}
        """Gradient by parameter."""
        self.gradients = self.flat[: sum(sizes[:trained])]


def differentiate(
    sae: SparseAutoencoder,
    x: Float[Tensor, "n d_in"],
    k: float,
    loss: LossConfig,
    dead: Int64[Tensor, " dead"],
    shards_total: int,
    sums: StepSums,
    precision: Precision = "float32",
    guides: Guides | None = None,
    probe: LinearProbe | None = None,
) -> None:
    """Write into `sums` this shard's part of the loss, its gradients, and the statistics (SCIENCE S4, losses.py)."""
    tokens = len(x) * shards_total
    scale = 2 / (tokens * sae.d_in)
    centred = x - sae.b_dec
    active = products(encode(sae, centred, sae.rule(k, len(x)), precision), sae, len(x), precision)
    latents, W_dec = active.keep(sae.respond(active.pre, active.which)), sae.W_dec.to(active.dtype)
    errors = nested(active.decode(latents, W_dec)).add_(sae.b_dec).sub_(x)
    # a latent answers for the first dictionary it is in and for all wider ones
    slopes = (nested(errors.flip(0)).flip(0) if len(errors) > 1 else errors) * scale
    terms = dict.fromkeys(TERMS, x.new_zeros(()))
    squared_errors = errors.square().sum(dim=(1, 2))
    terms["reconstruction"] = squared_errors.sum() * (scale / 2)

    grad_latents = active.sample(slopes, W_dec)
    penalised = latents
    if not sae.penalises_gate:
        grad_latents.add_(loss.l1 / tokens)
    labelled = named = x.new_zeros(())
    if guides and loss.temporal:
        changed = temporal(active, latents, guides.following, loss.temporal_form)
        grad_latents.add_(changed.latents, alpha=loss.temporal / shards_total)
        terms["temporal"] = changed.loss * (loss.temporal / shards_total)
    if guides and probe:
        probed = label_probe(active, latents, probe, guides.label)
        grad_latents.add_(probed.latents, alpha=loss.probe / shards_total)
        terms["probe"], labelled, named = probed.loss * (loss.probe / shards_total), probed.labelled, probed.named
        sums.of_probe["rows"].copy_(probed.rows / shards_total)
        sums.of_probe["bias"].copy_(probed.bias / shards_total)
    pull = sae.pull(active.pre, active.which, grad_latents, loss.l0 / tokens)
    grad_pre = active.keep(pull.pre)
    if sae.penalises_gate:
        gate = gate_path(sae, active, x, loss.l1 / tokens, scale)
        grad_pre.add_(gate.grad_pre)
        penalised, terms["gate"] = gate.values, gate.loss

    sums.W_dec.copy_(active.gather(latents, slopes))
    sums.W_enc_rows.copy_(active.gather(grad_pre, centred[None]))
    sums.b_enc.copy_(active.total(grad_pre))
    if loss.aux and len(dead):
        aux = aux_k(sae, centred, errors[-1], dead, loss.aux * scale)
        sums.W_dec.index_add_(0, dead, aux.W_dec)
        sums.W_enc_rows.index_add_(0, dead, aux.W_enc_rows)
        sums.b_enc.index_add_(0, dead, aux.b_enc)
        terms["aux"] = aux.loss
    # b_dec is added in every dictionary, and subtracted from the input
    torch.sub(slopes[0].sum(dim=0), sae.W_enc @ sums.b_enc, out=sums.b_dec)
    for name, values in pull.own.items():
        total = active.total(active.keep(values))
        sums.of[name].copy_(total + sums.b_enc if name == "b_enc" else total)

    on = (latents > 0).float()
    sums.fired.copy_(active.total(on))
    terms["l1"], terms["l0_loss"] = penalised.sum() * (loss.l1 / tokens), on.sum() * (loss.l0 / tokens)
    variance = (x - x.mean(dim=0)).square().sum()
    cut = active.least(latents) / shards_total if sae.needs_k else x.new_zeros(())
    torch.stack([*terms.values(), squared_errors[-1], variance, on.sum(), labelled, named, cut], out=sums.statistics)


def nested(parts: Float[Tensor, "levels n d"]) -> Float[Tensor, "levels n d"]:
    """Running sums over the nested dictionaries."""
    return parts if len(parts) == 1 else parts.cumsum(dim=0)


def update(sae: SparseAutoencoder, optimizer: torch.optim.Optimizer, sums: StepSums, lr: float) -> None:
    """Adam along the clipped gradient, the decoder's part taken tangential to its unit rows, and unit rows again."""
    radial = (sums.W_dec * sae.W_dec).sum(dim=1, keepdim=True)
    sums.W_dec.addcmul_(sae.W_dec, radial, value=-1)
    norm = torch.linalg.vector_norm(sums.gradients)
    # the fused optimizer divides by it on its way: clipping costs no pass of its own
    optimizer.grad_scale = (norm / CLIP_NORM).clamp_(min=1)  # pyright: ignore[reportAttributeAccessIssue]
    move(sae, optimizer, sums.of, lr)
    sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
    sae.project()


def move(module: nn.Module, optimizer: torch.optim.Optimizer, gradients: dict[str, Tensor], lr: float) -> None:
    """One step of Adam along `gradients`."""
    for name, parameter in module.named_parameters():
        parameter.grad = gradients[name]
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
