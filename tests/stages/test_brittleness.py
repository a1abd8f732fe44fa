"""The four perturbations of TEST text, on the tiny run, and planted latents that must lose or keep their score."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from raysae.corpora.rewriting import Rewritten, exchange
from raysae.falsification.metrics.alignment import Alignment
from raysae.falsification.metrics.tallies import score
from raysae.models.capture import capture
from raysae.models.load import load_tokenizer
from raysae.stages.court import Court
from raysae.stages.exhibits import EXHIBITS, Evidence, Exhibit, brittleness, perturbations, reading
from raysae.stages.exhibits.labels import revive_tally
from raysae.stages.exhibits.perturbations import PERTURBATIONS, perturbed
from raysae.stages.exhibits.words import Words, tokens_of
from raysae.types import Experiment, Metric, Split
from raysae.types.loading import load

SO, EQUALS, EOS = "so", "=", "<eos>"


@pytest.fixture(scope="module")
def court(tiny_config: Path, undisturbed: Path) -> Court:
    return Court(load(tiny_config, [f"out={undisturbed.parent}"]))


@pytest.fixture(scope="module")
def documents(court: Court) -> list[np.ndarray]:
    sample = court.sample("main", Split.TEST)
    return [sample.token_id[sample.document.numpy() == i] for i in range(sample.documents)]


def measured(court: Court) -> Metric:
    """Both seeds of the real SAE, written and read back as `evaluate` does."""
    exhibit = EXHIBITS["brittleness"]
    assert isinstance(exhibit, Exhibit)
    shown = [{"brittleness": json.loads(json.dumps(exhibit.examine(court.examine("main", seed))))} for seed in (0, 1)]
    return exhibit.summarise(Evidence(court.experiment, court.protocol, {"main": shown}))


def test_a_run_on_a_world_measures_all_four(court: Court):
    found = measured(court)
    assert next(gate for gate in found.gates if gate.name == "perturbations").passed
    assert all(found.also[kind] is not None for kind in PERTURBATIONS)
    assert found.value == max(found.also[kind] or 0.0 for kind in PERTURBATIONS)
    # The words of this world mean the same to the model; where they stand does not: it counts positions.
    assert abs(found.also["paraphrase"] or 1) < 0.2 < (found.also["length_shift"] or 0)


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_every_token_that_is_left_is_the_one_that_the_label_was_for(
    court: Court, documents: list[np.ndarray], kind: str
):
    texts = PERTURBATIONS[kind](court)
    assert texts is not None and len(texts) == len(documents)
    longest = max(map(len, documents))
    for tokens, text in zip(documents, texts, strict=True):
        left = text.at >= 0
        assert (np.diff(text.at[left]) > 0).all() and len(text.tokens) <= longest
        if kind != "paraphrase":
            assert np.array_equal(text.tokens[text.at[left]], tokens[left])


def test_cues_stand_before_words_and_no_number_is_torn(court: Court):
    tokenizer = court.tokenizer
    texts = PERTURBATIONS["token_injection"](court) or []
    count = 0
    for text in texts:
        words = tokenizer.convert_ids_to_tokens(text.tokens.tolist())
        for i in set(range(len(words))) - set(text.at.tolist()):
            count += 1
            assert words[i] == SO
            assert i + 1 == len(words) or words[i + 1][0].isalpha()
    assert count == pytest.approx(sum(len(text.at) for text in texts) / perturbations.ONE_IN, rel=0.15)


def test_a_longer_text_moves_every_token_by_the_end_of_another_document(court: Court, documents: list[np.ndarray]):
    for tokens, text in zip(documents, PERTURBATIONS["length_shift"](court) or [], strict=True):
        left = np.flatnonzero(text.at >= 0)
        by = int(text.at[0])
        assert 1 <= by <= len(tokens) // 2 and np.array_equal(text.at[left], left + by)
        assert any(np.array_equal(other[-by:], text.tokens[:by]) for other in documents)


def test_the_same_seed_gives_the_same_texts_and_another_seed_others(tiny_config: Path, undisturbed: Path):
    def drawn(seed: int) -> list[list[int]]:
        again = Court(load(tiny_config, [f"out={undisturbed.parent}", f"seed={seed}"]))
        return [text.tokens.tolist() for kind in PERTURBATIONS for text in PERTURBATIONS[kind](again) or []]

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_what_is_read_is_what_one_plain_pass_per_document_gives(court: Court, documents: list[np.ndarray], kind: str):
    found, texts = perturbed(court, "main", kind), PERTURBATIONS[kind](court) or []
    assert found is not None
    x = court.sample("main", Split.TEST).x.clone()
    x[found.rows] = found.x
    start = 0
    for text in texts[:20]:
        ids = torch.from_numpy(text.tokens)[None]
        plain = capture(court.model("main"), ids, torch.ones_like(ids), (court.hookpoint,))[court.hookpoint][0]
        left = np.flatnonzero(text.at >= 0)
        assert torch.allclose(x[start + left], plain[text.at[left]], atol=2e-2, rtol=1e-2)
        start += len(text.at)


class Planted:
    """Latents as a function of the text: a model whose activations they are, and an SAE that changes nothing."""

    def __init__(self, court: Court, patch: pytest.MonkeyPatch, read: Any, factor: np.ndarray) -> None:
        def capture(_: Any, ids: torch.Tensor, mask: torch.Tensor, points: tuple[Any]) -> dict[Any, torch.Tensor]:
            return {points[0]: torch.stack([read(row) for row in ids])}

        perturbed.cache_clear()
        patch.setattr(reading, "capture", capture)
        sample = court.sample("main", Split.TEST)
        cuts = np.flatnonzero(np.diff(sample.document.numpy())) + 1
        tokens = torch.from_numpy(sample.token_id.astype(np.int64))
        self.court, self.source, self.test = court, "main", sample
        self.test_latents = torch.cat([read(row) for row in torch.tensor_split(tokens, cuts.tolist())])
        self.sae = SimpleNamespace(encode=lambda x: x)
        self.factor = factor

    def loss(self, latent: int, kind: str) -> float:
        one = np.ones(1, np.float32)
        matched = Alignment(np.array([latent]), one / 2, fit_f1=one, test_f1=one, any_test_f1=one)
        exam: Any = self
        shown = brittleness._tallies(exam, matched, self.factor[:, None])
        clean, changed = (score(revive_tally(shown[name])) for name in ("clean", kind))
        return 1 - changed / clean


def number(court: Court, word: str) -> int:
    return tokens_of(court.tokenizer, [word])[0]


def test_a_latent_of_positions_is_caught_by_another_length_and_a_latent_of_words_is_not(
    court: Court, documents: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    equals = number(court, EQUALS)
    where = sorted({int(i) for tokens in documents for i in np.flatnonzero(tokens == equals)})

    def read(ids: torch.Tensor) -> torch.Tensor:
        return torch.stack([ids == equals, torch.isin(torch.arange(len(ids)), torch.tensor(where))], dim=1).half()

    planted = Planted(court, monkeypatch, read, court.sample("main", Split.TEST).token_id == equals)
    assert planted.loss(0, "length_shift") == planted.loss(0, "token_injection") == 0
    assert planted.loss(1, "length_shift") > 0.5 and planted.loss(1, "token_injection") > 0.2
    assert planted.loss(1, "paraphrase") == 0


def test_a_latent_of_the_cue_loses_everything_with_it_and_one_of_what_follows_nothing(
    court: Court, monkeypatch: pytest.MonkeyPatch
):
    so, eos = number(court, SO), court.tokenizer.eos_token_id
    cue = court.sample("main", Split.TEST).token_id == so

    def read(ids: torch.Tensor) -> torch.Tensor:
        last = torch.cat([ids[1:] == eos, torch.tensor([False])])
        return torch.stack([ids == so, last, (ids == so) | last], dim=1).half()

    planted = Planted(court, monkeypatch, read, cue | np.append(False, cue[:-1]))
    assert planted.loss(0, "cue_removal") == 1
    # What fires at both words of `so 5` is whole without the first, and what fired at the second alone has nothing more
    # to miss.
    assert planted.loss(2, "cue_removal") == 0 and planted.loss(1, "cue_removal") < 0


def test_a_false_alarm_at_a_cue_does_not_go_with_the_cue(court: Court, monkeypatch: pytest.MonkeyPatch):
    so, equals = number(court, SO), number(court, EQUALS)

    def read(ids: torch.Tensor) -> torch.Tensor:
        return ((ids == so) | (ids == equals)).half()[:, None]

    planted = Planted(court, monkeypatch, read, court.sample("main", Split.TEST).token_id == equals)
    assert planted.loss(0, "cue_removal") == 0


def test_a_text_without_cues_is_not_measured_and_says_so(court: Court, monkeypatch: pytest.MonkeyPatch):
    perturbed.cache_clear()
    monkeypatch.setattr(perturbations, "CUES", ("thus", "hence"))
    found = measured(court)
    perturbed.cache_clear()
    gate = next(gate for gate in found.gates if gate.name == "perturbations")
    assert not gate.passed and gate.detail == "token_injection, cue_removal not measured"


def test_a_perturbation_that_changes_nothing_is_not_measured(
    court: Court, documents: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    def as_it_was(_: Court) -> list[Rewritten]:
        return [exchange(tokens, {}) for tokens in documents]

    perturbed.cache_clear()
    monkeypatch.setitem(PERTURBATIONS, "paraphrase", as_it_was)
    assert perturbed(court, "main", "paraphrase") is None
    perturbed.cache_clear()


def test_cues_of_a_vocabulary_of_pieces_are_whole_words():
    experiment = Experiment.model_validate({"name": "w", "model": {"name": "tiny-gsm8k"}})
    tokenizer = load_tokenizer(experiment.model, experiment.tokenizer)
    pieces = ["Ġso", "Ġso", "c", "Ġso", ".", "c", "c", "Ġsold"]
    ids = np.array(tokenizer.convert_tokens_to_ids(pieces))
    words = Words(tokenizer, ids, np.repeat([0, 1], [6, 2]))
    #                                so     soc           so    .     c   | c     sold
    assert words.whole.tolist() == [True, False, False, True, True, True, True, True]
    assert words.begins.tolist() == [piece[0] == "Ġ" for piece in pieces]
    assert tokens_of(tokenizer, (" so", " so so", " zyzzyva")) == [ids[0]]
    assert words.apart(ids.tolist()) == ids[words.begins].tolist()
