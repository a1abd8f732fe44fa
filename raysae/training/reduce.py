"""The sum over a worker group with the bits of one worker: pairs, then pairs of pairs."""

import torch
import torch.distributed as dist
from torch import Tensor


def pairwise_sum(flat: Tensor) -> None:
    """In place, by recursive doubling: every worker exchanges with rank ^ 1, then rank ^ 2, ... and ends with
    ((0 + 1) + (2 + 3)) + ... . A ring sums in another order for each part of the tensor. Needs 1, 2, 4, ... workers.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    theirs = torch.empty_like(flat)
    distance = 1
    while distance < world:
        partner = rank ^ distance
        exchange = [dist.P2POp(dist.isend, flat, partner), dist.P2POp(dist.irecv, theirs, partner)]
        for request in dist.batch_isend_irecv(exchange):
            request.wait()
        flat += theirs
        distance *= 2
