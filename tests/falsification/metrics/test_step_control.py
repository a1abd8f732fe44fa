"""Step-level control on a linear reader with planted latents: what must stand out does, and nothing else."""

import numpy as np
import pytest
import torch

from raysae.falsification.metrics import step_control
from raysae.falsification.metrics.step_control import OUTCOMES, Control, Sums

DOCUMENTS, LENGTH, D, M = 40, 12, 64, 48
HOW = {"bootstrap": 400, "seed": 0}
OWN = {"parse": [3, 5], "operate": [7, 11]}


class World:
    """Each document is six tokens of `parse` and six of `operate`; two latents belong to each type, all others fire as
    often anywhere. The answer reads latent 7, the number of steps latent 3, nothing reads the others."""

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        n = DOCUMENTS * LENGTH
        self.document = np.repeat(np.arange(DOCUMENTS), LENGTH)
        place = np.tile(np.arange(LENGTH), DOCUMENTS)
        self.types = {"parse": place < 6, "operate": place >= 6}
        self.latents = torch.rand(n, M, generator=rng) * (torch.rand(n, M, generator=rng) < 0.5)
        for name, own in OWN.items():
            inside = torch.from_numpy(self.types[name])[:, None]
            self.latents[:, own] = (0.5 + torch.rand(n, len(own), generator=rng)) * inside
        self.W_dec = torch.randn(M, D, generator=torch.Generator().manual_seed(99))
        self.W_dec[:, :2] = 0  # what the reader reads
        self.W_dec[7], self.W_dec[3] = torch.eye(D)[0], torch.eye(D)[1]
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)

    def read(self, delta: torch.Tensor) -> Sums:
        def by_document(values: torch.Tensor) -> np.ndarray:
            return np.bincount(self.document, weights=values.double().numpy(), minlength=DOCUMENTS)

        return {
            "answer": 2 * by_document(delta[:, 0]) - 1,
            "steps": by_document(delta[:, 1]) + 3,
            "detection": np.zeros(DOCUMENTS),
        }

    def control(self, draws: int = 40) -> Control:
        alive = torch.ones(M, dtype=torch.bool)
        chosen = step_control.choose(self.latents, self.types, alive)
        return step_control.measure(
            self.read, self.latents, self.W_dec, self.types, chosen, alive.numpy(), draws, seed=5
        )


COUNTS: Sums = {name: np.ones(DOCUMENTS) for name in OUTCOMES}


@pytest.fixture(scope="module")
def seeds() -> list[Control]:
    return [World(seed).control() for seed in (0, 1, 2)]


def test_latents_go_to_the_step_type_they_detect(seeds: list[Control]) -> None:
    for one in seeds:
        assert {name: set(OWN[name]) <= set(one.latents[name]) for name in OWN} == {"parse": True, "operate": True}
        assert not set(one.latents["parse"]) & set(one.latents["operate"])


def test_an_effect_is_what_a_plain_loop_over_tokens_finds() -> None:
    world = World()
    one = world.control(draws=2)
    lost = np.zeros(DOCUMENTS)
    for token, document in enumerate(world.document):
        if world.types["operate"][token]:
            for latent in one.latents["operate"]:
                lost[document] += 2 * float(world.latents[token, latent] * world.W_dec[latent, 0])
    assert one.effects["operate"]["ablate"]["answer"] == pytest.approx(-lost, abs=1e-4)
    assert one.effects["operate"]["amplify"]["answer"] == pytest.approx(lost, abs=1e-4)
    assert one.single["operate"][7]["answer"] == pytest.approx(-lost.sum(), abs=1e-3), "latent 7 alone is read"
    assert one.single["parse"][7]["answer"] == 0, "it does not fire in the other steps"


def test_only_what_was_planted_stands_out(seeds: list[Control]) -> None:
    found = step_control.rows(seeds, COUNTS, **HOW)
    assert len(found) == 2 * 2 * 2, "nothing that is done here can move the detection of slips"
    standing = {(row["step"], row["edit"], row["outcome"]) for row in found if row["stands_out"]}
    assert standing == {
        *(("operate", edit, "answer") for edit in ("ablate", "amplify")),
        *(("parse", edit, "steps") for edit in ("ablate", "amplify")),
    }


def test_matched_sets_that_are_the_same_count_once(seeds: list[Control]) -> None:
    few = [one._replace(sets={name: 1 for name in one.sets}) for one in seeds]
    assert all(35 < sets <= 40 for one in seeds for sets in one.sets.values())
    rows = step_control.rows(few, COUNTS, **HOW)
    assert all(row["p_matched_latents"] >= 1 / 4 and not row["stands_out"] for row in rows)


def test_the_value_is_the_mean_loss_over_step_types_beside_its_nulls(seeds: list[Control]) -> None:
    found = step_control.summarise(seeds, COUNTS, **HOW)
    by_hand = np.mean([np.mean([-one.effects[name]["ablate"]["answer"].mean() for name in OWN]) for one in seeds])
    assert found.value == pytest.approx(by_hand) and found.interval is not None
    matched, random = (found.nulls[name] for name in ("matched_latents", "random_direction"))
    assert matched.p95 is not None and random.mean is not None
    assert found.interval[0] > matched.p95 and abs(random.mean) < 0.2 * by_hand
    assert found.also["cells_that_stand_out"] == 4 and found.also["clean_answer"] == -1


def test_latents_drawn_at_random_do_not_stand_out() -> None:
    world, seeds = World(), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        free = rng.permutation([i for i in range(M) if i not in (3, 5, 7, 11)])
        chosen = {"parse": free[:3].tolist(), "operate": free[3:6].tolist()}
        alive = np.ones(M, dtype=bool)
        seeds.append(step_control.measure(world.read, world.latents, world.W_dec, world.types, chosen, alive, 40, seed))
    assert not any(row["stands_out"] for row in step_control.rows(seeds, COUNTS, **HOW))


def test_the_matrix_has_a_cell_per_step_type_and_latent(seeds: list[Control]) -> None:
    cells = step_control.matrix(seeds[0], COUNTS)
    latents = sum(map(len, seeds[0].latents.values()))
    assert len(cells) == 2 * latents * 3
    (hit,) = [c for c in cells if (c["step"], c["latent"], c["outcome"]) == ("operate", 7, "answer")]
    assert hit["of"] == "operate" and abs(hit["effect"]) > hit["band"] >= 0


def test_what_nothing_counts_has_no_row(seeds: list[Control]) -> None:
    counts = {**COUNTS, "steps": np.zeros(DOCUMENTS), "detection": np.zeros(DOCUMENTS)}
    assert {row["outcome"] for row in step_control.rows(seeds, counts, **HOW)} == {"answer"}
    assert {cell["outcome"] for cell in step_control.matrix(seeds[0], counts)} == {"answer"}
