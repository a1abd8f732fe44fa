"""Matryoshka BatchTopK SAE (arXiv 2503.17547): nested dictionaries, general features first."""

from raysae.saes.batch_topk import BatchTopK

SHARES = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
"""Of the latents, in each nested dictionary: the paper's 2,048 to 65,536 (section 4)."""


class MatryoshkaBatchTopK(BatchTopK):
    """BatchTopK whose training loss is the sum of the reconstruction errors of its prefixes; afterwards a BatchTopK."""

    architecture = "matryoshka_batch_topk"

    @property
    def prefixes(self) -> tuple[int, ...]:
        return tuple(sorted({max(1, round(share * self.d_sae)) for share in SHARES}))
