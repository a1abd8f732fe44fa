"""Joint success of packed edits on the bundled model, against one plain forward pass for each edit of each pair."""

import numpy as np
import pytest
import torch

from raysae.models.capture import capture, splice
from raysae.models.load import load_model, load_tokenizer
from raysae.stages.exhibits.interchange import JointSuccess
from raysae.stages.exhibits.pairs import PairTokens, behind, tokenize_pairs
from raysae.types import Experiment, HookPoint
from raysae.worlds import arithmetic_cot

WORLD = Experiment.model_validate({"name": "w"})
VALUES = ["2", "7", "9"]


@pytest.fixture(scope="module")
def pairs() -> PairTokens:
    records = list(arithmetic_cot.generate(60, seed=3))
    drawn = [pair for value in VALUES for pair in arithmetic_cot.interchange_pairs(records, "total", value, 6, seed=1)]
    tokenizer = load_tokenizer(WORLD.model, WORLD.tokenizer)
    return tokenize_pairs(tokenizer, drawn, {record.record_id: record for record in records})


def one_by_one(model, hookpoint: HookPoint, pairs: PairTokens, delta: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Joint success, and whether anything is predicted otherwise from the edit to the last readout."""
    success, changed = np.zeros(delta.shape[:2]), np.zeros(delta.shape[:2])
    for row in range(len(delta)):
        with torch.no_grad():
            before = model(pairs.tokens[row : row + 1], use_cache=False).logits[0].argmax(dim=-1)
        for edit in range(delta.shape[1]):

            def edited(hidden: torch.Tensor, row: int = row, edit: int = edit) -> torch.Tensor:
                hidden = hidden.clone()
                hidden[0, pairs.positions[row]] += delta[row, edit]
                return hidden

            with torch.no_grad(), splice(model, hookpoint, edited):
                found = model(pairs.tokens[row : row + 1], use_cache=False).logits[0].argmax(dim=-1)
            at, word = pairs.readouts[row], pairs.expected[row]
            success[row, edit] = bool((found[at] == word)[at >= 0].all())
            changed[row, edit] = bool((found != before)[int(pairs.positions[row]) : int(at.max()) + 1].any())
    of_value = [[value == v for value in pairs.values] for v in VALUES]
    return tuple(np.array([what[rows].mean(axis=0) for rows in of_value]) for what in (success, changed))


@pytest.mark.parametrize("site", ["layers.0.resid_post", "layers.1.mlp_hidden", "last.resid_post"])
def test_packed_edits_succeed_where_one_forward_pass_each_does(pairs: PairTokens, site: str) -> None:
    model = load_model(WORLD.model)
    hookpoint = HookPoint.parse(site.replace("last", f"layers.{model.config.num_hidden_layers - 1}"))
    source = capture(
        model, pairs.source_tokens, torch.ones_like(pairs.source_tokens), (hookpoint,)
    )[hookpoint][torch.arange(len(pairs.values)), pairs.source_positions]  # fmt: skip
    base = capture(model, pairs.tokens, torch.ones_like(pairs.tokens), (hookpoint,))[hookpoint]
    whole = source - base[torch.arange(len(pairs.values)), pairs.positions]
    noise = torch.randn((len(whole), 3, whole.shape[1]), generator=torch.Generator().manual_seed(0))
    # Nothing, everything, and directions of the size of everything: some pairs succeed and some do not.
    delta = torch.cat([torch.zeros_like(whole)[:, None], whole[:, None], whole.norm(dim=1)[:, None, None] * noise], 1)
    delta = torch.cat([delta, whole[:, None] * torch.linspace(0.1, 0.9, 40)[:, None]], dim=1)
    found = JointSuccess(model, hookpoint, pairs, VALUES)(delta)
    success, changed = one_by_one(model, hookpoint, pairs, delta)
    assert found.success == pytest.approx(success) and found.changed == pytest.approx(changed)
    # The base's own outcome is never the expected one. A single MLP carries too little of a total to change it.
    assert found.success[:, 0].max() == 0 and (found.success.max() > 0 or hookpoint.site == "mlp_hidden")
    assert found.changed[:, 0].max() == 0 and found.changed[:, 2:5].min() > 0.5, "nearly every edit changes something"


def test_the_wrong_site_is_one_token_behind_and_what_was_predicted_before_it_is_no_readout(pairs: PairTokens) -> None:
    there = behind(pairs)
    assert torch.equal(there.positions, pairs.positions + 1)
    assert torch.equal(there.tokens, pairs.tokens) and torch.equal(there.expected, pairs.expected)
    dropped = (there.readouts == -1) & (pairs.readouts >= 0)
    assert torch.equal(dropped, pairs.readouts == pairs.positions[:, None]), "the copy of the total is predicted on `:`"
    assert dropped.any() and (there.readouts >= there.positions[:, None]).any(dim=1).all()
