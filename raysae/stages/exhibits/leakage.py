"""Leakage: the guided SAE beside the same one without guidance, each probed on every set of the text (SCIENCE 5.3-5.5).

An arm shows what its own SAE gives: `main` the guided one, then the unguided one, the one guided by control labels, and
the guided and unguided ones of the random model. What depends on no SAE, raw activations and the surface model, is
shown beside the first of the real ones.
"""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array

from raysae.falsification.metrics import leakage, probing, surface, tripwires
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.metrics.tallies import Key, Tally
from raysae.stages.capture import MAIN, TWIN
from raysae.stages.court import Examination
from raysae.stages.dictionaries import CONTROLLED, GUIDANCE, TWIN_UNGUIDED, UNGUIDED
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.designated import designated, others
from raysae.stages.exhibits.judged import Text, cue_rate, judged, read_train
from raysae.stages.exhibits.labels import plain_tally, revive_tally
from raysae.stages.measure import encode
from raysae.store import Manifest, read_records
from raysae.types import Gate, Metric, Split

NO_GUIDED_SAE = "The SAEs are trained without guidance; type loss.probe=1 and loss.probe_label= to judge it."
CALLED = {
    MAIN: "guided",
    UNGUIDED: "baseline",
    CONTROLLED: "guided_control",
    TWIN: "guided_random_model",
    TWIN_UNGUIDED: "baseline_random_model",
}
"""What the metric calls the latents of each arm."""
SETS = ("SEEN", "UNSEEN", "CUE", "PAIR")


def _examine(exam: Examination) -> Plain | None:
    text = judged(exam.court, exam.source)
    if text is None or not exam.experiment.loss.probe or exam.arm not in CALLED:
        return None
    name, reader = CALLED[exam.arm], _Latents(exam, text)
    if exam.arm == CONTROLLED:
        return _shown(reader.control(name))
    tallies, probe = reader.truth(name)
    found: Plain = {}
    if exam.arm in (MAIN, UNGUIDED):
        tallies |= reader.permuted(name)
    if exam.arm == UNGUIDED:
        tallies |= reader.control("baseline_control")
    if exam.arm == MAIN:
        where = "UNSEEN" if "UNSEEN" in text.test else "SEEN"
        position = text.test[where].position
        found["position_share"] = tripwires.position_share(probe.weights, reader.test(where), position)
        tallies |= reader.deleted()
        if exam.number == exam.experiment.train.seed_numbers[0]:
            tallies |= _without_sae(exam, text)
            found["texts"] = _texts(exam)
    return {**_shown(tallies), **found}


class _Latents:
    """One SAE as a representation of the text: every probe is trained on FIT."""

    def __init__(self, exam: Examination, text: Text) -> None:
        self.exam, self.text, self.seed = exam, text, exam.court.seed("leakage")
        self.fit = csr_array(encode(exam.sae, text.fit.x).numpy())
        self._test: dict[str, csr_array] = {}

    def test(self, split: str) -> csr_array:
        """A set of TEST, which several probes read."""
        if split not in self._test:
            self._test[split] = csr_array(encode(self.exam.sae, self.text.test[split].x).numpy())
        return self._test[split]

    def truth(self, name: str) -> tuple[dict[Key, Tally], probing.Probe]:
        """Probed for the label on every set, and on CUE for the label of the cue."""
        text, found = self.text, {}
        probe = probing.fit(self.fit, text.fit.y, text.fit.unit, seed=self.seed)
        for split in (split for split in SETS if split in text.test):
            part = text.test[split]
            said = probing.predict(probe, self.test(split))
            found[name, split] = (
                cue_rate(text, said) if split == "CUE" else part.accuracy(said, part.y, len(text.classes))
            )
        return found, probe

    def control(self, name: str) -> dict[Key, Tally]:
        """Probed for control labels on SEEN."""
        text, seen = self.text, self.text.test["SEEN"]
        probe = probing.fit(self.fit, text.fit.control, text.fit.unit, seed=self.seed)
        said = probing.predict(probe, self.test("SEEN"))
        return {(name, "SEEN"): seen.accuracy(said, seen.control, len(text.classes))}

    def permuted(self, name: str) -> dict[Key, Tally]:
        """Probed for labels that whole documents have exchanged, on the sets that bind."""
        text, found = self.text, {}
        exchanged = text.fit.y[permuted_rows(text.fit.unit, self.seed)]
        probe = probing.fit(self.fit, exchanged, text.fit.unit, seed=self.seed)
        for split in (split for split in tripwires.BINDING if split in text.test):
            part = text.test[split]
            y = part.y[permuted_rows(part.unit, self.seed + 1)]
            said = probing.predict(probe, self.test(split))
            found |= tripwires.exchanged((name, split), y, said, part.unit, part.units, len(text.classes))
        return found

    def deleted(self) -> dict[Key, Tally]:
        """ALT-b: probed on SEEN without the latents designated for the classes, and without as many others."""
        text, seen, found = self.text, self.text.test["SEEN"], {}
        chosen = designated(self.exam, text)
        sought = np.unique(chosen.latents[chosen.latents >= 0])
        for name, gone in (("designated", sought), ("random", others(self.exam, sought))):
            keep = np.ones(self.exam.sae.d_sae)
            keep[gone] = 0
            fit, test = (csr_array(x * keep) for x in (self.fit, self.test("SEEN")))
            probe = probing.fit(fit, text.fit.y, text.fit.unit, seed=self.seed)
            found[f"guided_without_{name}", "SEEN"] = seen.accuracy(
                probing.predict(probe, test), seen.y, len(text.classes)
            )
        return found


def _without_sae(exam: Examination, text: Text) -> dict[Key, Tally]:
    """Raw activations, whose probes have seen as many labels as the guidance did, and the surface model (N11)."""
    seed, classes, found = exam.court.seed("leakage"), len(text.classes), {}
    x, y, document = read_train(exam.court, exam.source, text)
    everything = {"seed": seed, "budget": len(y)}
    raw = probing.fit(x, y, document, **everything)
    bags, test_bags = (_bags(exam, split) for split in (Split.FIT, Split.TEST))
    worded = probing.fit(bags[text.fit.rows], text.fit.y, text.fit.unit, seed=seed)
    for split in (split for split in ("SEEN", *tripwires.BINDING) if split in text.test):
        part = text.test[split]
        values = part.x.numpy()
        found["raw_activations", split] = part.accuracy(probing.predict(raw, values), part.y, classes)
        said = probing.predict(worded, test_bags[part.rows])
        found["surface_model", split] = part.accuracy(said, part.y, classes)
        if split == "UNSEEN":
            said = probing.predict_nonlinear(x, y, document, values, **everything)
            found["raw_activations_nonlinear", split] = part.accuracy(said, part.y, classes)
    return found


def _bags(exam: Examination, split: Split) -> csr_array:
    sample = exam.court.sample(exam.source, split)
    vocabulary = int(exam.court.tokens.manifest.extra["vocab_size"])
    return surface.features(sample.token_id, sample.document.numpy(), vocabulary)


def _texts(exam: Examination) -> dict[str, list[str]]:
    """Hashes of the texts of every set, for the tripwire that looks for one in two of them."""
    corpus, found = Manifest.read(exam.court.folder.corpus), {}
    for block in corpus.blocks:
        for record in read_records(exam.court.folder.corpus, block):
            split, name = block.facts["split"], str(record.extras.get("set", "PLAIN"))
            called = name if name in SETS else "SEEN" if split == Split.TEST else str(split)
            if name in (*SETS, "PLAIN"):
                found.setdefault(called, []).append(tripwires.text_hash(record.text)[:16])
    return found


def _shown(tallies: Mapping[Key, Tally]) -> Plain:
    return {"tallies": [[*key, plain_tally(tally)] for key, tally in tallies.items()]}


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("leakage")
    if MAIN not in shown:
        return leakage.summarise([], gates=(), **evidence.bootstrap).model_copy(update={"not_run": NO_GUIDED_SAE})
    seeds: list[dict[Key, Tally]] = [{} for _ in shown[MAIN]]
    for arm in shown.values():
        for seed, one in zip(seeds, arm, strict=True):
            seed |= {(name, split): revive_tally(tally) for name, split, tally in one["tallies"]}
    # What no SAE has touched is the same for every seed.
    shared = {key: tally for key, tally in seeds[0].items() if any(key not in seed for seed in seeds)}
    seeds = [{**shared, **seed} for seed in seeds]
    return leakage.summarise(seeds, gates=_tripwires(seeds, shown[MAIN], evidence), **evidence.bootstrap)


def _tripwires(seeds: list[dict[Key, Tally]], main: list[Plain], evidence: Evidence) -> tuple[Gate, ...]:
    share = max(float(one["position_share"]) for one in main)
    return tripwires.check(seeds, texts=main[0]["texts"], position_share=share, **evidence.bootstrap)


LEAKAGE = Exhibit(_examine, _summarise, nulls=(*GUIDANCE, TWIN))
