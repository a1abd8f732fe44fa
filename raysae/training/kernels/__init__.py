"""The products of a training step. The encoder's is the one dense product (`encoder.py`); the others touch active
latents only: `bags.py` for a list of pairs, `dense.py` where so many are active that dense products are faster."""

from raysae.saes import SparseAutoencoder
from raysae.saes.selection import Listed, Selection
from raysae.training.kernels.bags import Bags
from raysae.training.kernels.dense import Dense
from raysae.training.kernels.encoder import DTYPE, Precision, encode

Products = Bags | Dense


def products(selection: Selection, sae: SparseAutoencoder, tokens: int, precision: Precision) -> Products:
    """The same functions, over the selection in the shape it came in."""
    if isinstance(selection, Listed):
        return Bags(selection, sae.prefixes, tokens, DTYPE[precision])
    return Dense(selection, sae.prefixes)


__all__ = ["Bags", "Dense", "Precision", "Products", "encode", "products"]
