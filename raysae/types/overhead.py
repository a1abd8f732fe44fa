"""What capture costs: how it is measured."""

from pydantic import Field

from raysae.types.part import Part


class OverheadConfig(Part):
    """The measurement behind the criteria capture_latency, capture_throughput and capture_memory. It reads drawn token
    ids, so no corpus and no tokenizer take part."""

    blocks: int = Field(default=30, gt=0)
    """Blocks of timed runs: without hooks, captured, captured, without hooks."""
    batch_size: int = Field(default=8, gt=0)
    """Documents per forward pass, in the place of `capture.batch_tokens`."""
    sequence_length: int = Field(default=256, gt=1)
    """Tokens per document."""
    batches: int = Field(default=1, gt=0)
    """Forward passes of one run; a captured run writes one file."""
    sustained_tokens: int = Field(default=100_000, gt=0)
    """Tokens captured without a pause for capture_throughput; 60 seconds end it as well."""

    @property
    def documents(self) -> int:
        """Of one run."""
        return self.batch_size * self.batches

    @property
    def run_tokens(self) -> int:
        return self.documents * self.sequence_length
