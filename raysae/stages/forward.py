"""Documents through a hooked model: batches by a token budget, longest first, so that padding stays small and is never
kept; on an accelerator a batch is copied to the host while the next one runs."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from raysae.errors import BadInput
from raysae.models.capture import capture as capture_activations
from raysae.types import HookPoint

COPIES_IN_FLIGHT = 2
PADDING = 0.05
LEAST = 1 / 8


class Forward:
    """One model, and what is read in it."""

    def __init__(self, model: Any, hookpoints: Sequence[HookPoint], batch_tokens: int) -> None:
        self.model, self.hookpoints, self.batch_tokens = model, tuple(hookpoints), batch_tokens
        self.device = model.device

    def __call__(self, documents: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Token ids of each document -> float32 [tokens, d] per hook point, in document order."""
        lengths = [len(ids) for ids in documents]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        out: dict[str, np.ndarray] = {}

        def place(rows: list[int], copies: dict[str, _Copy]) -> None:
            for point, copy in copies.items():
                array = copy.array()
                target = out.setdefault(point, np.empty((starts[-1], array.shape[-1]), np.float32))
                for row, i in enumerate(rows):
                    target[starts[i] : starts[i + 1]] = array[row, : lengths[i]]

        copying: deque[tuple[list[int], dict[str, _Copy]]] = deque()
        for batch in token_batches(lengths, self.batch_tokens):
            for rows, tensors in self._run(documents, batch):
                copying.append((rows, {str(point): _Copy(tensor) for point, tensor in tensors.items()}))
                if len(copying) > COPIES_IN_FLIGHT:
                    place(*copying.popleft())
        while copying:
            place(*copying.popleft())
        return out

    def _run(
        self, documents: Sequence[np.ndarray], batch: list[int]
    ) -> Iterator[tuple[list[int], dict[HookPoint, Any]]]:
        """The batch at once, or its halves where the device has too little memory for it."""
        import torch

        ids = np.zeros((len(batch), max(len(documents[i]) for i in batch)), np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, : len(documents[i])] = documents[i]
            mask[row, : len(documents[i])] = 1
        try:
            input_ids, seen = torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
            tensors = capture_activations(self.model, input_ids, seen, self.hookpoints)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise BadInput(
                    f"a document of {ids.shape[1]} tokens does not fit into the memory of {self.device} ({error})",
                    "allowed: documents that do",
                    f"type tokenizer.ctx_len={ids.shape[1] // 2} or model.dtype=bfloat16",
                ) from error
            tensors = None
        if tensors is None:
            torch.cuda.empty_cache()
            half = len(batch) // 2
            yield from self._run(documents, batch[:half])
            yield from self._run(documents, batch[half:])
        else:
            yield batch, tensors


class _Copy:
    """A tensor on its way to the host: through pinned memory, on a stream of its own, in the model's precision."""

    def __init__(self, tensor: Any) -> None:
        import torch

        self.tensor, self.arrived = tensor, None
        if tensor.is_cuda:
            stream = _copy_stream(tensor.device)
            stream.wait_stream(torch.cuda.current_stream(tensor.device))
            with torch.cuda.stream(stream):
                self.tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                self.tensor.copy_(tensor, non_blocking=True)
                tensor.record_stream(stream)  # its memory is not given away before the copy has read it
                self.arrived = stream.record_event()

    def array(self) -> np.ndarray:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.tensor.float().numpy()


_STREAMS: dict[Any, Any] = {}


def _copy_stream(device: Any) -> Any:
    import torch

    if device not in _STREAMS:
        _STREAMS[device] = torch.cuda.Stream(device)
    return _STREAMS[device]


def token_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of documents, longest first, so that documents x longest <= batch_tokens (one document at least).

    A batch ends before its padding would be more than PADDING of it, once it has LEAST of the budget.
    """
    batch: list[int] = []
    longest = tokens = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        padded = (len(batch) + 1) * longest
        wasteful = padded - tokens - lengths[i] > PADDING * padded and len(batch) * longest >= LEAST * batch_tokens
        if batch and (padded > batch_tokens or wasteful):
            yield batch
            batch, tokens = [], 0
        if not batch:
            longest = lengths[i]
        batch.append(i)
        tokens += lengths[i]
    if batch:
        yield batch
