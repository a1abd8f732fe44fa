"""The kernels for accelerators, in Triton's interpreter: the products of plain torch, and the same training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysae.saes import ARCHITECTURES
from raysae.training.kernels import bags
from tests.training.test_trainer import run, trainer

pytest.importorskip("triton", reason="Triton is not installed: its kernels are for Linux")
triton_bags = pytest.importorskip("raysae.training.kernels.triton_bags")

TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}
"""Of a sum of up to 700 products in float32, whose order is another."""

shapes = st.tuples(
    st.integers(0, 70),  # pairs
    st.integers(1, 12),  # bags
    st.integers(1, 20),  # rows
    st.sampled_from([1, 5, 16, 511, 512, 700]),  # columns: less and more than a program takes
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(0, 2**31),
)


def drawn(shape: tuple) -> dict[str, torch.Tensor]:
    pairs, count, rows, d, dtype, seed = shape
    random = torch.Generator().manual_seed(seed)
    row = torch.randint(count, (pairs,), generator=random).sort().values
    return {
        "row": row,
        "which": torch.randint(rows, (pairs,), generator=random),
        "first": torch.searchsorted(row, torch.arange(count)),
        "weights": torch.randn(pairs, generator=random),
        "rows": torch.randn(rows, d, generator=random).to(dtype),
        "left": torch.randn(count, d, generator=random).to(dtype),
    }


@settings(max_examples=25, deadline=None)
@given(shapes)
def test_sums_of_weighted_rows(shape):
    x = drawn(shape)
    found = triton_bags.bag(x["rows"], x["which"], x["first"], x["weights"])
    plain = torch.zeros(found.shape).index_add_(0, x["row"], x["rows"].float()[x["which"]] * x["weights"][:, None])
    torch.testing.assert_close(found, plain, **TOLERANCE)
    if x["rows"].dtype is torch.float32:
        torch.testing.assert_close(found, bags.bag(x["rows"], x["which"], x["first"], x["weights"]), **TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(shapes)
def test_inner_products_of_pairs(shape):
    x = drawn(shape)
    found = triton_bags.sampled(x["left"], x["rows"], x["row"], x["which"])
    plain = (x["left"].float()[x["row"]] * x["rows"].float()[x["which"]]).sum(dim=1)
    torch.testing.assert_close(found, plain, **TOLERANCE)


EACH = [pytest.param(name, marks=[] if name == "batch_topk" else [pytest.mark.slow]) for name in ARCHITECTURES]


@pytest.mark.parametrize("architecture", EACH)
def test_training_by_the_kernels_is_training_by_torch(architecture, monkeypatch):
    monkeypatch.setattr("raysae.saes.selection.DENSE", 1.0)  # never so many that matrices take over
    plain = run(trainer(architecture), 0, 3)
    used = set()

    def bag(*arguments):
        used.add("bag")
        return triton_bags.bag(*arguments)

    def sampled(left, right, row, which, sorted_pairs=None):
        used.add("sampled")
        order, _, rows, latent = sorted_pairs or bags.by_latent(row, which, len(left), len(right))
        products = triton_bags.sampled(left, right, rows, latent)
        return torch.empty_like(products).index_copy_(0, order, products)

    monkeypatch.setattr(bags, "bag", bag)
    monkeypatch.setattr(bags, "sampled", sampled)
    by_kernels = run(trainer(architecture), 0, 3)
    assert used == {"bag", "sampled"}
    for (name, one), other in zip(plain.sae.named_parameters(), by_kernels.sae.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=name)
