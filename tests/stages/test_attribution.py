"""Causal attribution on the bundled model: scores against plain forward passes, and what one SAE shows."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysae.falsification.metrics.attribution import gradients, join
from raysae.models.capture import splice
from raysae.models.load import load_model, load_tokenizer
from raysae.stages.court import Court
from raysae.stages.exhibits.attribution import PARTS, _examine, _revive
from raysae.stages.exhibits.pushing import Pushed
from raysae.stages.exhibits.readouts import Readouts
from raysae.stages.measure import Sample
from raysae.types import Experiment, HookPoint, Split
from raysae.types.loading import load
from raysae.worlds import arithmetic_cot
from raysae.worlds.bookings import carried

WORLD = Experiment.model_validate({"name": "w"})
TEXT = Experiment.model_validate({"name": "t", "corpus": {"name": "gsm8k"}})


@dataclass(frozen=True, eq=False)
class Small:
    """As much of a court as pushing needs."""

    experiment: Experiment
    hookpoint: HookPoint

    @property
    def protocol(self) -> Any:
        return self.experiment.protocol

    def model(self, source: str) -> Any:
        return load_model(self.experiment.model)

    def seed(self, use: str) -> int:
        return 5

    def sample(self, source: str, split: Split) -> Sample:
        tokenizer = load_tokenizer(WORLD.model, WORLD.tokenizer)
        ids = [tokenizer(record.text)["input_ids"] for record in arithmetic_cot.generate(4, seed=1)]
        return Sample(
            x=torch.empty(0),
            document=torch.repeat_interleave(torch.arange(4), torch.tensor(list(map(len, ids)))),
            records=[str(i) for i in range(4)],
            token_id=np.concatenate(ids).astype(np.int32),
            labels={},
        )


@pytest.mark.parametrize("experiment", [WORLD, TEXT])
def test_without_a_site_there_is_no_score_and_no_gradient_and_nothing_fails(experiment: Experiment) -> None:
    point = HookPoint(layer=1, site="resid_post")
    readouts = Readouts(experiment, load_tokenizer(WORLD.model, WORLD.tokenizer))
    court: Any = Small(experiment, point)
    nowhere = Pushed(court, "main", Split.TEST, np.empty(0, np.int64), readouts, point)
    somewhere = Pushed(court, "main", Split.TEST, np.array([3]), readouts, point)
    none, one = (score(torch.arange(n), torch.zeros(n, 2, 64)) for score, n in ((nowhere, 0), (somewhere, 1)))
    assert (none.value.shape, none.top.shape) == ((0, *one.value.shape[1:]), (0, *one.top.shape[1:]))
    assert gradients(nowhere, np.empty(0, np.int64), 64).shape == (0, 64)


def test_a_word_of_a_booking_says_which_variables_it_carries() -> None:
    assert carried("7b") == {"total": "7", "book": "b"}
    assert carried("*4") == {"operation": "mul", "operand": "4"}
    assert [carried(word) for word in ("7", "=", "so", "in", "Ann", "<eos>")] == [{}] * 6


@pytest.mark.parametrize("point", ["layers.0.resid_post", "layers.0.mlp_hidden", "layers.1.mlp_out"])
@pytest.mark.parametrize("experiment", [WORLD, TEXT], ids=["world", "text"])
def test_scores_are_those_of_one_plain_forward_pass_per_edit(experiment: Experiment, point: str) -> None:
    court = Small(experiment, HookPoint.parse(point))
    tokenizer = load_tokenizer(WORLD.model, WORLD.tokenizer)
    readouts, sample, model = Readouts(experiment, tokenizer), court.sample("main", Split.TEST), court.model("main")
    window = 1 if court.hookpoint.layer == 1 else experiment.protocol.attribution_window
    readable = readouts.readable(sample, window)
    rows = np.flatnonzero(readable)[[0, 3, 9, 17, -1]]
    pushed = Pushed(court, "main", Split.TEST, rows, readouts, court.hookpoint)  # type: ignore[arg-type]
    width = 256 if court.hookpoint.site == "mlp_hidden" else 64
    delta = torch.randn(len(rows), 20, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = pushed(torch.arange(len(rows)), delta)
    document, words = sample.document.numpy(), tokenizer.convert_ids_to_tokens(range(81))
    for site, row in enumerate(rows):
        first, end = np.flatnonzero(document == document[row])[[0, -1]]
        ids = torch.from_numpy(sample.token_id[first : end + 1].astype(np.int64))[None]
        for edit in (0, 19):

            def edited(tensor: torch.Tensor, at: int = row - first, step: torch.Tensor = delta[site, edit]) -> Any:
                tensor = tensor.clone()
                tensor[0, at] += step
                return tensor

            with torch.no_grad(), splice(model, court.hookpoint, edited):
                p = model(ids, use_cache=False).logits[0].softmax(dim=-1)
            expected: dict[str, list[float]] = {group: [] for group in readouts.groups}
            for ahead in range(1, window + 1):
                if row + ahead > end:
                    break
                now, token = p[row - first + ahead - 1].tolist(), int(sample.token_id[row + ahead])
                if experiment is TEXT:
                    foreign = int(pushed.foreign[site, ahead - 1])
                    expected["next tokens"].append(math.log(now[token]))
                    if foreign != token:
                        rest = sum(now[:token] + now[token + 1 :])
                        expected["foreign tokens"].append(math.log(now[foreign] / rest))
                    continue
                values = carried(words[token])
                for name, value in values.items():
                    alike = [i for i, word in enumerate(words) if carried(word).get(name) == value]
                    expected[name].append(math.log(sum(now[i] for i in alike)))
                if not values:
                    expected["other words"].append(math.log(now[token]))
            naive = [float(np.mean(logs)) if logs else 0.0 for logs in expected.values()]
            assert found.value[site, edit].tolist() == pytest.approx(naive, abs=2e-3, rel=2e-3)


def test_a_site_is_readable_if_a_word_with_a_value_follows_in_its_document() -> None:
    court = Small(WORLD, HookPoint.parse("layers.1.resid_post"))
    tokenizer = load_tokenizer(WORLD.model, WORLD.tokenizer)
    sample = court.sample("main", Split.TEST)
    words = tokenizer.convert_ids_to_tokens(sample.token_id.tolist())
    found = Readouts(WORLD, tokenizer).readable(sample, 1)
    naive = [
        i + 1 < len(words) and bool(carried(words[i + 1])) and bool(sample.document[i] == sample.document[i + 1])
        for i in range(len(words))
    ]
    assert found.tolist() == naive and found.any()


def test_the_parts_of_an_sae_are_all_its_alive_latents_and_silent_tokens_are_counted(
    undisturbed: Path, tiny_config: Path
) -> None:
    experiment = load(tiny_config, [f"out={undisturbed.parent}"])
    exam = Court(experiment).examine("main", 0)
    parts = [part for number in range(PARTS) if (part := _examine(exam, number)) is not None]
    found = join([_revive(json.loads(json.dumps(part))) for part in parts])
    assert found.latent.tolist() == torch.nonzero(exam.alive)[:, 0].tolist()
    on = (exam.test_latents[:, exam.alive] > 0).sum(dim=0).numpy()
    assert (found.off_support + on == len(exam.test.x)).all()
    assert (found.sites <= np.minimum(on, experiment.protocol.attribution_sites)).all() and found.sites.any()
    again = _examine(Court(experiment).examine("main", 0), 1)
    assert again == parts[1], "a part depends on what was examined before it"
