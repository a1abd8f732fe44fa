"""What `evaluate` measures: a file per kind of evidence, and the table from the name of a criterion to its exhibit.

An exhibit shows plain numbers for one SAE (`Exhibit`) or for all seeds of an arm at once (`Comparison`), and makes one
Metric of what all arms and seeds have shown.
"""

from raysae.stages.exhibits import alignment, documents, fidelity, interchange
from raysae.stages.exhibits.base import Comparison, Evidence, Exhibit

EXHIBITS: dict[str, Exhibit | Comparison] = {
    "reconstruction": documents.RECONSTRUCTION,
    "sparsity": documents.SPARSITY,
    "fidelity": fidelity.FIDELITY,
    "alignment": alignment.ALIGNMENT,
    "causal_interchange": interchange.INTERCHANGE,
}

__all__ = ["EXHIBITS", "Comparison", "Evidence", "Exhibit"]
