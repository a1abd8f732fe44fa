"""C1 to C3: what capturing costs beside the forward pass, from timings, written files and peaks (SCIENCE 1)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from raysae.falsification.criterion import PARTS, SUSTAINED_S, SUSTAINED_TOKENS
from raysae.falsification.metrics.observation import finite
from raysae.falsification.resampling import median, ratio_over_documents
from raysae.types.metric import Gate, Metric, Reason


class Capture(NamedTuple):
    """What was captured, and whether it is what the model computes."""

    device: str
    gpu: bool
    model: str
    parameters: int
    blocks_run: int
    """Transformer blocks up to the last hook point."""
    sites: int
    """Hook points."""
    dtype: str
    """Of the forward pass."""
    stored_as: str
    batch_size: int
    sequence_length: int
    compared: int
    """Captured numbers held against a forward pass without hooks."""
    differing: int
    generated: int
    """Tokens decoded greedily, twice more with hooks and after capturing."""
    changed: int
    """How many of those differ, or the logits behind them."""
    tokens: int
    """That should stand in the files, over all files."""
    rows: int
    """That do."""
    wrong_documents: int
    """Whose token ids or positions in a file are not those that went in."""
    devices: int = 1
    """Different devices among the measurements."""

    def gates(self) -> tuple[Gate, ...]:
        """Without them no number means what it says."""
        return (
            Gate(
                name="equal to a reference",
                passed=self.compared > 0 and self.differing == 0,
                detail=f"{self.differing:,} of {self.compared:,} numbers differ from a forward pass without hooks",
            ),
            Gate(
                name="model unchanged",
                passed=self.generated > 0 and self.changed == 0,
                detail=f"{self.changed} of {self.generated} greedily decoded tokens differ with hooks, or logits do",
            ),
            Gate(
                name="every token once",
                passed=self.tokens > 0 and self.rows == self.tokens and self.wrong_documents == 0,
                detail=f"{self.rows:,} of {self.tokens:,} tokens in the files, {self.wrong_documents} documents differ",
            ),
            Gate(
                name="one device",
                passed=self.devices == 1,
                detail=self.device if self.devices == 1 else f"{self.devices} devices; remove metrics/ and go on",
            ),
        )

    def numbers(self) -> dict[str, float | None]:
        """What a number of speed or memory is worth nothing without (SCIENCE C2)."""
        named = ("parameters", "blocks_run", "sites", "batch_size", "sequence_length")
        return {name: float(getattr(self, name)) for name in named}


def latency(seconds: Mapping[str, Float[np.ndarray, "b _"]], capture: Capture, *, bootstrap: int, seed: int) -> Metric:
    """C1. `seconds` of the runs of each block: `base` and `capture` (two each), `forward` and `whole`."""
    of_block = {name: of_name.mean(axis=1) for name, of_name in seconds.items()}
    rise = of_block["capture"] / of_block["base"] - 1
    estimate = median(rise, bootstrap=bootstrap, seed=seed)
    return Metric(
        name="capture_latency",
        unit="share of the forward pass",
        direction="<=",
        value=finite(estimate.value),
        interval=estimate.interval,
        n=len(rise),
        unit_of_sampling="block",
        seeds=0,
        gates=capture.gates(),
        also={
            "forward_only": finite(np.median(of_block["forward"] / of_block["base"] - 1)),
            "against_whole_model": finite(np.median(of_block["capture"] / of_block["whole"] - 1)),
            "p95": finite(np.quantile(rise, 0.95, method="higher")),
        },
        not_run=None if estimate.interval else f"{len(rise)} blocks bound no median; at least five do.",
    )


def throughput(
    tokens: Int[np.ndarray, " f"],
    seconds: Float[np.ndarray, " f"],
    size: Int[np.ndarray, " f"],
    processed: float | None,
    capture: Capture,
    *,
    bootstrap: int,
    seed: int,
) -> Metric:
    """C2. Tokens, wall time and bytes of each file in the order of writing, without a pause between them; `processed`
    is tokens per second where nothing is written. Neighbouring files share the mood of the machine, so the units are
    PARTS stretches of neighbours (batch means, Schmeiser 1982)."""
    parts = np.array_split(np.arange(len(tokens)), min(PARTS, len(tokens)))
    of_part = [np.array([[column[part].sum() for part in parts]], np.float64) for column in (tokens, seconds)]
    estimate = ratio_over_documents(*of_part, bootstrap=bootstrap, seed=seed)
    whole, lasted = int(tokens.sum()), float(seconds.sum())
    described = capture.parameters > 0 and capture.sites > 0
    return Metric(
        name="capture_throughput",
        unit="tokens per second",
        direction=">=",
        value=finite(estimate.value),
        interval=estimate.interval,
        n=len(parts),
        unit_of_sampling="part",
        seeds=0,
        gates=(
            *capture.gates(),
            Gate(
                name="sustained",
                passed=lasted >= SUSTAINED_S or whole >= SUSTAINED_TOKENS,
                detail=f"{whole:,} tokens in {lasted:.1f} s, needed {SUSTAINED_TOKENS:,} or {SUSTAINED_S:g} s",
                failure=Reason.UNDERPOWERED,
            ),
            Gate(
                name="described",
                passed=described,
                detail=f"{capture.model}, {capture.parameters:,} parameters in {capture.dtype}, {capture.sites} hook "
                f"points behind {capture.blocks_run} blocks stored as {capture.stored_as}, {capture.batch_size} x "
                f"{capture.sequence_length} tokens, {capture.device}",
                failure=Reason.NOT_RUN,
            ),
        ),
        also={
            "processed": processed,
            "bytes_per_second": finite(size.sum() / lasted) if lasted else None,
            **capture.numbers(),
        },
        not_run=None if estimate.interval else "Nothing was written.",
    )


def memory(base: Int[np.ndarray, " r"], captured: Int[np.ndarray, " s"], total: int, capture: Capture) -> Metric:
    """C3. Peaks in bytes of runs without hooks and of captured ones, and the memory of the device. On a CPU they are
    printed and the criterion has no value.

    Interval: the lowest peak of one against the highest of the other, which holds the difference of the medians.
    """
    known = len(base) > 0 and len(captured) > 0
    rise = float(np.median(captured) - np.median(base)) if known else 0.0
    judged = known and capture.gpu
    also: dict[str, float | None] = {}
    if known:
        also["peak_base_bytes"], also["peak_hook_bytes"] = float(np.median(base)), float(np.median(captured))
        also["relative_to_base" if capture.gpu else "cpu_relative_to_base"] = rise / also["peak_base_bytes"]
    if known and not capture.gpu:
        also["cpu_share_of_physical"] = rise / total
    return Metric(
        name="capture_memory",
        unit="share of device memory",
        direction="<=",
        value=rise / total if judged else None,
        interval=(
            (float(captured.min() - base.max()) / total, float(captured.max() - base.min()) / total) if judged else None
        ),
        n=min(len(base), len(captured)),
        unit_of_sampling="run",
        seeds=0,
        gates=capture.gates(),
        also=also,
        not_run=None if judged else _not_judged(rise, total) if known else "No GPU, and no peak to print.",
    )


def _not_judged(rise: float, total: int) -> str:
    return (
        f"No GPU, so this was not measured. On this CPU the peak of resident memory rose by {rise / 1e6:,.1f} MB, "
        f"{rise / total:.2%} of physical memory, which is another claim."
    )
