"""What the stages that judge have in common: which documents are read, and an SAE run over them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raysae.falsification.criterion import sweep_margin
from raysae.falsification.metrics import alignment, reconstruction, redundancy, sparsity
from raysae.falsification.sweeping import margins
from raysae.saes import SparseAutoencoder
from raysae.store import ActivationStore, BlockInfo, TokenStore
from raysae.store.order import shown
from raysae.types import HookPoint, Split

CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Sample:
    """The tokens of some whole documents, with everything known about them."""

    x: torch.Tensor
    """float32 [n, d_in]"""
    document: torch.Tensor
    """int64 [n], counted from 0 over the sample"""
    records: list[str]
    """Record id of each document."""
    token_id: np.ndarray
    """int32 [n]"""
    labels: dict[str, np.ndarray]
    """Variable -> object [n], None where it is not defined."""

    @property
    def documents(self) -> int:
        return len(self.records)


def first_documents(tokens: TokenStore, split: Split, limit: int) -> Iterator[tuple[BlockInfo, int, int]]:
    """(block, documents, tokens) of the longest prefix of a split within `limit` tokens, one document at least."""
    left = limit
    for number, block in enumerate(tokens.blocks(split)):
        count = used = 0
        for _, ids, _ in tokens.documents(block):
            if used + len(ids) > left and (number or count):
                break
            count, used = count + 1, used + len(ids)
        if count:
            yield block, count, used
        left -= used
        if left <= 0 or used < block.facts["tokens"]:
            return


def read_labels(tokens: TokenStore, split: Split, limit: int) -> dict[str, np.ndarray]:
    """Variable -> object [n] over the tokens of `first_documents`, without any activation."""
    parts = [
        {name: values[:used] for name, values in tokens.labels(block).items()}
        for block, _, used in first_documents(tokens, split, limit)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}


def read_sample(store: ActivationStore, tokens: TokenStore, split: Split, hookpoint: HookPoint, limit: int) -> Sample:
    """The activations and labels of `first_documents`, less the documents that capture quarantined."""
    x, document, token_id, records, kept = [], [], [], [], []
    for block, _, used in first_documents(tokens, split, limit):
        info = next(b for b in store.blocks(split) if b.name == block.name)
        rows, kept_here = store.read(info, hookpoint), shown(info)[:used]
        read = int(kept_here.sum())
        present, numbers = np.unique(rows.document[:read], return_inverse=True)
        x.append(rows.activations[:read])
        document.append(numbers.astype(np.int64) + len(records))
        token_id.append(rows.token_id[:read])
        records += [rows.records[i] for i in present]
        kept.append(kept_here)
    mask = np.concatenate(kept)
    return Sample(
        x=torch.from_numpy(np.concatenate(x)),
        document=torch.from_numpy(np.concatenate(document)),
        records=records,
        token_id=np.concatenate(token_id),
        labels={name: values[mask] for name, values in read_labels(tokens, split, limit).items()},
    )


def mean_active(latents: torch.Tensor) -> float:
    """L0 of latents [n, m]."""
    return float((latents != 0).sum(dim=1).double().mean())


def by_variable(units: Sequence[str]) -> dict[str, list[str]]:
    """Registered `variable=value` units: variable -> its values, both in their order."""
    found: dict[str, list[str]] = {}
    for variable, _, value in (unit.partition("=") for unit in units):
        found.setdefault(variable, []).append(value)
    return found


def places(values: Iterable[str | None], among: Sequence[str]) -> np.ndarray:
    """int64 [n], the place of each value in `among`; -1 for one that is not there."""
    index: dict[str | None, int] = {value: i for i, value in enumerate(among)}
    return np.array([index.get(value, -1) for value in values], dtype=np.int64)


def factor_matrix(labels: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """bool [n, F]: is `variable` equal to `value`, for each name `variable=value`; false where it has no label."""
    rows = len(next(iter(labels.values()))) if labels else 0
    unknown = np.full(rows, None)
    columns = [labels.get(variable, unknown) == value for variable, _, value in (name.partition("=") for name in names)]
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), bool)


def factor_names(labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Every `variable=value` that occurs, sorted."""
    return tuple(
        sorted(f"{name}={value}" for name, values in labels.items() for value in {v for v in values if v is not None})
    )


@torch.no_grad()
def encode(sae: SparseAutoencoder, x: torch.Tensor) -> torch.Tensor:
    """Latents [n, d_sae] of all rows, in chunks."""
    return torch.cat([sae.encode(part) for part in x.split(CHUNK_ROWS)])


@torch.no_grad()
def decode(sae: SparseAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    """x_hat [n, d_in] of all rows, in chunks."""
    return torch.cat([sae.decode(part) for part in latents.split(CHUNK_ROWS)])


def fit_margins(
    sae: SparseAutoencoder,
    sample: Sample,
    mean: torch.Tensor,
    alive_rate: float,
    l0_cap: float,
    seed: int,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """How far inside the thresholds an SAE lies on a sample of FIT; `mean` is that of TRAIN, `seed` draws N1.

    Registered `factors` are matched to latents on every other document and looked for on the rest. Fidelity needs the
    model and causal claims need pairs of texts, which are not at hand here.
    """
    latents = encode(sae, sample.x)
    alive = sparsity.alive_latents(latents, alive_rate)
    active = (latents != 0).sum(dim=1)
    errors = reconstruction.document_errors(
        sample.x, decode(sae, latents), mean, sample.document, sample.documents, active
    )
    zeros = sparsity.document_columns(latents, alive, sample.document, sample.documents)
    fvu = float(errors["sse"].sum() / errors["sst"].sum())
    l0 = float(errors["l0"].sum() / errors["tokens"].sum())
    zero = float(np.quantile(zeros["zero"] / zeros["tokens"], sparsity.QUANTILE)) if alive.any() else 0.0
    r_geo = redundancy.geometric(sae.W_dec.detach()[alive].cpu().double().numpy(), seed)
    f1 = _other_half_f1(latents, alive, sample, factors) if factors else None
    return {
        "fvu": fvu,
        "l0": l0,
        "zero_fraction": zero,
        "alive": int(alive.sum()),
        "margin": sweep_margin(fvu, zero, l0, l0_cap),
        "r_geo": r_geo,
        "f1": f1,
        "margins": margins(fvu, zero, r_geo, f1),
    }


def _other_half_f1(latents: torch.Tensor, alive: torch.Tensor, sample: Sample, factors: tuple[str, ...]) -> float:
    half = sample.document % 2 == 0
    on = factor_matrix(sample.labels, factors)
    a, b = half.numpy(), ~half.numpy()
    return float(alignment.align(latents[half], on[a], latents[~half], on[b], alive).test_f1.mean())
