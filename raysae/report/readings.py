"""What every number beside a criterion or an observation is, in a sentence; bounds and families of them in one row."""

from fnmatch import fnmatchcase
from typing import Any

from raysae.falsification.criterion import SEED_SHARE
from raysae.falsification.metrics.brittleness import PERTURBATIONS
from raysae.falsification.metrics.leakage import CHANNELS
from raysae.report import words
from raysae.report.data import Plain

MOST = f"at least {SEED_SHARE:.0%} of the seeds"

_MATCHED = {
    "mean_f1": "F1 of the matched latents on TEST, mean over factors and seeds",
    "max_f1_share": "share of factors with some latent at F1 >= 0.95, so that one latent may serve several; a factor "
    f"counts, as in the value, if that holds in {MOST}",
    "coverage": f"share of factors with some latent at F1 >= 0.9, in {MOST}",
}
_CAPTURE = {
    "parameters": "of the model",
    "blocks_run": "transformer blocks that had to run",
    "sites": "hook points that were captured",
    "batch_size": "texts at a time",
    "sequence_length": "tokens of a text",
}
_PROBES = (
    "of the SAE guided by labels, of the baseline trained alike without them, of raw activations and of the surface "
    "model, which sees tokens alone; control: labels that the token type decides, permuted: labels of other documents"
)

READINGS: dict[str, dict[str, str]] = {
    "reconstruction": {
        "explained_variance": "1 - FVU",
        "fvu_zero": "error over sum ||x||^2; a mean far from zero flatters it",
        "cosine": "between an activation and its reconstruction, mean over tokens",
        "error_above_*": "how much larger the error is than that of the same SAE without the term, as a share of it",
        "shrinkage": "length of the reconstruction over that of the activation; 1: none is lost",
        "l0": "active latents per token",
    },
    "sparsity": {
        "zero_fraction_mean": "share of alive latents that are zero, mean over tokens instead of a low percentile",
        "zero_fraction_all": "the same of all latents; dead ones raise it",
        "silent_throughout": "share of alive latents that are zero on all tokens of a document, 5th percentile",
        "l0": "active latents per token",
        "dead_fraction": "share of latents that count as dead on FIT",
    },
    "fidelity": {
        "delta_ce": "cross-entropy lost through the SAE, nats per token",
        "ce_clean": "cross-entropy of the model as it is, nats per token",
        "ce_gap": "what mean ablation costs, the denominator, nats per token",
        "kl": "divergence from the model's own predictions, nats per token",
        "ce_recovered_zero": "the value with zero ablation, which inflates it",
    },
    "alignment": {
        **_MATCHED,
        "cosine": "between a matched latent's decoder row and the factor's true direction",
        "purity": "share of a matched latent's activation that falls on its factor",
        "splitting": "other latents with F1 > 0.5 to the same factor",
        "absorption": "share of a factor's tokens where its latent is silent and one of a similar direction fires",
        "whole_state": "share of tokens on which every registered factor is read rightly",
        "rival *": "the value of another recipe, trained on the same tokens",
    },
    "interventional": _MATCHED,
    "causal_interchange": {
        "mean_j": "joint success J of the latents, mean over values and seeds, nothing subtracted",
        "mean_ceiling_j": "J of the best supervised edit",
        "mean_matched_j": "J of other latents that fire as often and move as much",
        "untestable_units": "values whose ceiling is too low in some seed; they count as not coherent",
        "any_change": "share of pairs in which the exchange changes any prediction",
        "any_change_matched": "the same for the matched latents",
        "illusions": "values per seed that owe over half of their success to what nothing downstream reads",
        "precision": "of single latents with an effect, the share that has 80 % of it on one variable",
        "examined_latents": "latents exchanged one by one, mean over seeds",
        "effective_latents": "those of them with an effect beyond random directions, mean over seeds",
    },
    "redundancy": {
        "rho_functional": "the same reduction for the share of latents that another one fires like",
        "r_geo_*": "excess |cosine| between latents, without (plain) and with the decorrelation term",
        "r_fun_*": "share of latents that another one fires like",
        "fvu_*": "variance left unexplained",
        "l0_*": "active latents per token",
    },
    "redundancy_level": {
        "r_fun": "share of latents that another one fires like",
        "alive": "alive latents, mean over seeds",
    },
    "stability": {
        "primitives": "latents that recur and passed the tests before",
        "confirmed_share": "share of them with r above 0.7 in the held-out seeds",
        "share_of_dictionary": "share of the alive latents that are primitives",
        "share_of_energy": "share of the reconstruction energy that they carry",
        "candidates_that_fire_on_their_tokens": "share of recurring latents that fire on their tokens anywhere",
        "candidates_without_effect": "share of them without an effect beyond that of matched latents",
        "pw_mcc": "cosine of the whole dictionaries, matched pairwise",
    },
    "pw_mcc": {
        "share_above_0.7": "share of matched latents with cosine above 0.7",
        "pw_mcc_energy": "matched cosine, weighted by activation energy",
        "pw_mcc_activation": "correlation of matched latents' activations",
        "*_above_*": "cosine or activation correlation above a null: (value - null) / (1 - null)",
    },
    "transfer": {
        "score_*": "variance explained: by the other run (across), by this one (within), by the nulls",
        "raw_ratio": "across / within; near 1 for two numbers at the null",
        "l0_*": "active latents per token of either SAE",
        "documents_left_out": "TEST documents whose problem the other run trained on",
        "left_out": "TEST documents whose problem the other run trained on",
    },
    "causal_attribution": {
        "ranks": f"share of ranks by FIT slope whose latent passes in {MOST}",
        "alive": "alive latents, mean over seeds",
        "tested": "those that fire at a place that can be pushed",
        "off_support_tokens": "TEST tokens per latent on which it is silent; it is not pushed there",
        "significant": "share of all alive latents with an effect beyond random directions",
        "chosen_significant": "the same among the registered number of latents with the largest FIT slope, the chosen",
        "chosen_stands_out": "share of the chosen whose effect is among the largest of the decoder's rows there",
        "chosen_supports": "share of the chosen whose effect is positive on TEST",
        "chosen_linear": "share of the chosen whose effect grows with the dose",
        "chosen_specific": "share of the chosen with most of their effect on one readout",
        "chosen_above_matched": "share of the chosen that beat latents which fire as often",
        "chosen_*_ablation": "change of the score when a chosen latent is set to zero, to its mean, to another value",
        "chosen_illusions": "share of the chosen that owe over half of their effect to what nothing downstream reads",
        "any_change": "share of places at which the largest push changes the likeliest token",
        "any_change_matched": "the same for matched latents",
        "spearman_variance": "rank correlation of |effect| with the latent's variance",
        "spearman_frequency": "rank correlation of |effect| with how often the latent fires",
        "spearman_gradient": "rank correlation of |effect| with its gradient",
        "predicted_by_gradient_*": "measured slopes regressed on those that the gradient predicts: slope (1 is right), "
        "R squared, mean gap in nats",
        "predicted_by_fit_*": "the same for slopes on FIT",
    },
    "leakage": {
        "memorisation": "gain from guidance by control labels, which the token type alone decides: what the SAE learns "
        "from the labels and not from the model",
        "template": "gain on template families seen in training, less the gain on others",
        "cue": "gain in following a cue word that was swapped, against the truth of the text",
        "model_free": "gain on a model with random weights, which computes nothing",
        "benefit": "gain on minimal pairs, which only the history tells apart: what guidance should bring",
        "model_free_on_seen": "gain on a model with random weights, on template families seen in training",
        "gain_on_seen": "guided less baseline on template families seen in training",
        "alt_a_difference": "|guided - baseline| on UNSEEN, which would reward useless guidance",
        "alt_b_residual": "share of the accuracy above chance left without the latents designated for the labels",
        "alt_b_residual_random": "the same without as many other latents",
        "* on SEEN": f"probe accuracy on template families seen in training: {_PROBES}",
        "* on UNSEEN": "the same on other template families",
        "* on CUE": "how often a probe says the label of a swapped cue; low is good",
        "* on PAIR": "probe accuracy on minimal pairs",
    },
    "brittleness": {
        "clean_score": "mean F1 on clean text",
        "paraphrase": "relative loss of it in paraphrased text",
        "token_injection": "relative loss with tokens put in",
        "cue_removal": "relative loss without the words that give the answer away",
        "length_shift": "relative loss in longer or shorter text",
    },
    "capture_latency": {
        "forward_only": "hooked forward pass, nothing transferred or written",
        "against_whole_model": "beside a forward pass to the end of the model, which capture spares itself",
        "p95": "95th percentile of the blocks",
        **_CAPTURE,
    },
    "capture_throughput": {
        "processed": "tokens per second of the hooked forward pass, nothing written",
        "bytes_per_second": "written, synced and checksummed",
        **_CAPTURE,
    },
    "capture_memory": {
        "peak_base_bytes": "peak without hooks",
        "peak_hook_bytes": "peak with hooks",
        "relative_to_base": "the rise over the peak without hooks",
        "cpu_relative_to_base": "the rise over the peak without hooks, in main memory",
        "cpu_share_of_physical": "the rise over the machine's memory",
        **_CAPTURE,
    },
    "answer_accuracy": {
        "accuracy_clean": "share of right answers of the model as it is",
        "accuracy_sae": "through the SAE",
        "accuracy_ablated": "with the hook point's mean in place of the activation",
        "accuracy_*_given_steps": "answers that are the likeliest behind the true steps",
        "wrote_an_answer": "share of problems on which the model gave any answer",
        "fits_the_context": "share of problems that leave room for one",
    },
    "calibration": {
        "brier": "mean squared error of the probabilities",
        "brier_base_rate": "of a detector that always says the base rate",
        "brier_skill": "1 - the one over the other; 0: no better than the base rate",
    },
    "candidates": {
        "fire_on_injection": "share of candidates that fire on their tokens in a text without the thought",
        "lost_without_cue": "share that fall silent when the cue is taken away",
        "lost_in_paraphrase": "share that fall silent in paraphrase",
        "blind_to_pairs": "share that cannot tell minimal pairs apart",
    },
    "clustering": {
        "clusters": "clusters looked for in every seed",
        "clusters_by_gap": "number that the gap statistic finds, mean over seeds",
        "clusters_by_hdbscan": "number that HDBSCAN finds, mean over seeds",
        "noise_share": "share of latents that HDBSCAN puts in no cluster",
        "ari_hdbscan": "agreement between seeds of its clusters, 0 is chance",
    },
    "coverage": {
        "mean_f1": "best F1 of a single latent, mean over factors",
        "probe_coverage": "share of factors that a probe on all activations detects",
        "probe_mean_f1": "F1 of that probe, mean over factors",
    },
    "firing_density": {
        "log10_rate_up_to_*": "share of latents whose firing rate is below ten to this power, above the one before"
    },
    "fvu_by_position": {"from_position_*": "variance left unexplained from this token of the text to the next given"},
    "hook_sweep": {
        "band": "what the largest statistic stays below in 95 of 100 sweeps without an effect",
        "hookpoints_above_band": "how many exceed it",
        "statistic *": "effect beyond random directions over its standard error",
    },
    "probing": {
        "accuracy*": "balanced accuracy of the probe, by what it reads",
        "control_accuracy*": "the same for labels that the token type decides",
    },
    "purity": {
        "bin_*_of_5": "agreement above base rate in fifths of a latent's firings, the weakest first",
        "silhouette_decoder_*": "how well decoder rows group by label, above each null",
        "silhouette_activation_*": "how well tokens group by label, above each null",
    },
    "selectivity": {
        "selective_share": "share of alive latents that are selective beyond permuted labels",
        "share": "share of firings on the latent's label, nothing subtracted",
        "alive": "alive latents, mean over seeds",
    },
    "step_control": {
        "cells": "step types by edits by outcomes",
        "cells_that_stand_out": "those with an effect beyond both nulls",
        "clean_*": "the outcome without any edit",
    },
    "transfer_map": {
        "undefined_cells": "pairs of places where even another training does not pass the null",
        "* on *": "null-corrected transfer from one place to another",
    },
    "verification": {
        "found_unedited": "share of errors that the model finds unedited",
        "log_odds_moved": "change of the log odds that the latents bring",
        "log_odds_moved_matched": "that of matched latents",
        "log_odds_moved_whole": "that of the whole activation",
        "readout_only": "1: the latents do no more than matched ones, the label can be read and is not used",
    },
}
"""Name of a metric -> reading in its `also` -> what it is; `*` stands for the part in which a family differs."""

_LOWER, _UPPER = ("_low", "_lower"), ("_high", "_upper")
_COUNTED = {
    "alignment": "factor",
    "causal_interchange": "variable value",
    "coverage": "factor",
    "interventional": "factor",
}
"""Metrics whose value counts a unit only where most seeds agree on it."""
_PARTS = {
    "leakage": ("channel", tuple(CHANNELS)),
    "brittleness": ("perturbation", PERTURBATIONS),
}
"""Metrics whose value is that of the worst of several parts."""


def rows(metric: Plain) -> list[Plain]:
    """Every reading with what it is and its value; a bound stands in the row of its number, a family in one row."""
    name, also = str(metric.get("name")), metric.get("also") or {}
    found: list[Plain] = []
    families: dict[str, Plain] = {}
    for key, value in also.items():
        if _is_bound(key, also):
            continue
        pattern, about = explained(name, key)
        said = _with_bounds(key, value, also)
        if pattern is None or "*" not in pattern:
            found.append({"name": words.spaced(key), "about": about, "value": said, "members": []})
            continue
        if pattern not in families:
            families[pattern] = {"name": _family(pattern), "about": about, "value": "", "members": []}
            found.append(families[pattern])
        families[pattern]["members"].append((_member(key, pattern), said))
    return found


def by_seed(metric: Plain) -> Plain | None:
    """The value of each seed by itself; None where they were not kept."""
    values = metric.get("per_seed") or []
    unit = _COUNTED.get(str(metric.get("name")))
    about = "of each training by itself"
    if unit:
        about += f"; the value counts a {unit} only if it holds in {MOST}, so it can be lower than any of these"
    said = ", ".join(words.number(value) for value in values)
    return {"name": "value by seed", "about": about, "value": said, "members": []} if values else None


def worst(metric: Plain) -> str:
    """The part that makes the value of a metric that is a worst case; empty for any other."""
    name, also = str(metric.get("name")), metric.get("also") or {}
    what, parts = _PARTS.get(name, ("", ()))
    known = {part: value for part in parts if (value := words.finite(also.get(part))) is not None}
    if not known or words.finite(metric.get("value")) is None:
        return ""
    part = max(known, key=lambda one: known[one])
    return f"Worst {what}: {words.spaced(part)}, {_with_bounds(part, known[part], also)} ({explained(name, part)[1]})."


def explained(metric: str, key: str) -> tuple[str | None, str]:
    """The row of `READINGS` that a reading falls under, and its text; None and nothing for one without."""
    known = READINGS.get(metric, {})
    if key in known:
        return key, known[key]
    pattern = next((row for row in known if "*" in row and fnmatchcase(key, row)), None)
    return pattern, known[pattern] if pattern else ""


def is_explained(metric: str, key: str, also: Plain) -> bool:
    return _is_bound(key, also) or explained(metric, key)[0] is not None


def _is_bound(key: str, also: Plain) -> bool:
    return any(key.endswith(end) and key.removesuffix(end) in also for end in (*_LOWER, *_UPPER))


def _with_bounds(key: str, value: Any, also: Plain) -> str:
    low, high = (
        next((also[key + end] for end in ends if words.finite(also.get(key + end)) is not None), None)
        for ends in (_LOWER, _UPPER)
    )
    if low is None and high is not None:
        return f"{words.number(value)}, at most {words.number(high)}"
    return " ".join(words.measured(value, None if low is None else (low, high))).strip()


def _family(pattern: str) -> str:
    return words.spaced(pattern.replace("*", "…"))


def _member(key: str, pattern: str) -> str:
    if pattern.count("*") > 1:
        return words.spaced(key)
    before, after = pattern.split("*")
    return words.spaced(key.removeprefix(before).removesuffix(after).strip("_ ")) or "main"
