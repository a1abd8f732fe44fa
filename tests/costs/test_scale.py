"""Past one machine: the tables by hand, and those of the documentation."""

import re

import pytest

from raysae.costs.scale import crossing, of_steps, of_tokens
from raysae.models.load import describe
from raysae.stages.plan import at_scale
from raysae.terminal import scale_tables
from raysae.types import Experiment
from raysae.types.loading import load
from tests.conftest import ROOT

TINY = Experiment.model_validate({"name": "x", "train": {"batch_tokens": 4096}, "budget": {"mfu": 1.0}})
"""d_in 64, d_sae 512, k 8."""


def test_a_billion_tokens_by_hand() -> None:
    billion, ten, _ = of_tokens(TINY, describe(TINY.model), "H100", context=10)
    assert billion.cache_bytes == 1e9 * 64 * 2
    assert billion.read_hours == pytest.approx(128e9 / 5e9 / 3600)
    products = 1e9 * (2 * 64 * 512 + 8 * 64 * 8) / 989e12
    adam = 1e9 / 4096 * 32 * (2 * 64 * 512 + 512 + 64) / 3350e9
    assert billion.train_hours == pytest.approx((products + adam) / 3600)
    assert ten.capture_hours == pytest.approx(10 * billion.capture_hours)


def test_split_by_latents_state_and_memory_traffic_are_shared_and_a_step_sends_the_reconstruction() -> None:
    by_data, by_latents = of_steps(TINY, describe(TINY.model), "H100")[:2]
    assert (by_data.split, by_latents.split, by_data.devices) == ("data", "latents", 8)
    assert by_data.state_bytes == 8 * by_latents.state_bytes == 16 * (2 * 64 * 2**20 + 2**20 + 64)
    assert by_latents.network_bytes == 2 * 7 / 8 * 4096 * 64 * 4
    assert by_data.network_bytes == 2 * 7 / 8 * by_data.state_bytes / 4
    assert by_data.products_s == by_latents.products_s
    assert by_data.step_s > by_latents.step_s


def test_the_crossing_is_where_gradients_and_reconstruction_are_of_one_size() -> None:
    latents = crossing(TINY, describe(TINY.model))
    assert 129 * (latents - 1) < 4096 * 64 <= 129 * latents


def test_the_tables_of_the_documentation_are_those_that_are_computed() -> None:
    text = (ROOT / "docs" / "scale.md").read_text()
    (command,) = re.findall(r"raysae plan (\S+) --scale (.*)", text)
    rows, steps, latents = at_scale(load(ROOT / command[0], [key.strip("'") for key in command[1].split()]))
    for table in scale_tables(rows, steps):
        for row in table:
            assert f"| {' | '.join(row)} |" in text
    assert f"{latents:,} latents" in text
