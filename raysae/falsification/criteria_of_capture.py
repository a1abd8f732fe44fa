"""The criteria of capture itself, which have no nulls and no seeds (SCIENCE 1)."""

from raysae.falsification.criterion import (
    BLOCKS_FOR_GO,
    LATENCY,
    MEMORY,
    PARTS,
    RUNS_FOR_GO,
    SUSTAINED_S,
    SUSTAINED_TOKENS,
    TOKENS_PER_SECOND,
    Criterion,
)

_SAME_MODEL = (
    "captured numbers equal those of a forward pass without hooks, bit for bit before storage and as stored",
    "greedy decoding gives the same tokens and logits without hooks, with them and after capturing",
    "every token in the files once (count and checksum per document)",
    "all measured on one device",
)

OF_CAPTURE = (
    Criterion(
        name="capture_latency",
        title="Capturing takes less than half as long again as the forward pass it needs.",
        metric="Median over blocks of t_hook / t_base - 1, ABBA within a block, device synchronised (SCIENCE C1). "
        "t_hook: token block to Parquet on disk with transfer, encoding, fsync and checksum. t_base: the same batches "
        "without hooks, in the same process, ending where capture ends.",
        rivals=(
            "forward_only: hooked forward pass, nothing transferred or written",
            "against_whole_model: beside a forward pass to the end of the model, which capture spares itself",
            "p95: of the blocks",
        ),
        direction="<=",
        threshold=LATENCY,
        unit="share of the forward pass",
        unit_of_sampling="block",
        statistic="mean",
        minimum_n=BLOCKS_FOR_GO,
        largest_mde=None,
        voiding_nulls=(),
        informational_nulls=(),
        min_seeds=0,
        gates=_SAME_MODEL,
        reads_labels=False,
    ),
    Criterion(
        name="capture_throughput",
        title="Capture keeps up more than a thousand tokens a second, on disk.",
        metric="Tokens whose activations are written, synced and checksummed, over wall time, one actor without a "
        "pause (SCIENCE C2).",
        rivals=("processed: tokens per second of the hooked forward pass, nothing written", "bytes_per_second"),
        direction=">=",
        threshold=TOKENS_PER_SECOND,
        unit="tokens per second",
        unit_of_sampling="part",
        statistic="mean",
        minimum_n=PARTS,
        largest_mde=None,
        voiding_nulls=(),
        informational_nulls=(),
        min_seeds=0,
        gates=(
            *_SAME_MODEL,
            f"sustained over at least {SUSTAINED_S:g} s or {SUSTAINED_TOKENS:,} tokens",
            "model size and number of sites known, else the number is none",
        ),
        reads_labels=False,
    ),
    Criterion(
        name="capture_memory",
        title="Capturing takes less than a tenth of the GPU's memory beside the forward pass.",
        metric="(peak_hook - peak_base) / total device memory, medians over runs of torch's peak of allocated memory, "
        "either kind of run in a process of its own (SCIENCE C3). On a CPU it is NOT_RUN, with the peak of resident "
        "memory beside it.",
        rivals=(
            "relative_to_base: the rise over peak_base, the honest number on a large device",
            "cpu_share_of_physical: the same reading on a CPU, which is another claim",
        ),
        direction="<=",
        threshold=MEMORY,
        unit="share of device memory",
        unit_of_sampling="run",
        statistic="mean",
        minimum_n=RUNS_FOR_GO,
        largest_mde=None,
        voiding_nulls=(),
        informational_nulls=(),
        min_seeds=0,
        gates=(*_SAME_MODEL, "the device is a GPU"),
        reads_labels=False,
    ),
)
