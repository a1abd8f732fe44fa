"""The criteria, one row each: what is measured, the line it must cross, and the nulls that void it (SCIENCE 0.3)."""

from raysae.errors import BadInput
from raysae.falsification.criteria_of_capture import OF_CAPTURE
from raysae.falsification.criterion import (
    ALIGNMENT,
    ATTRIBUTION,
    BENEFIT_NEGLIGIBLE,
    BRITTLENESS,
    CE_GAP_NATS,
    CE_RECOVERED,
    CEILING_J,
    COHERENCE,
    CORRECTED_J,
    DETECTED,
    F1_RECOVERED,
    FVU_LIMIT,
    LEAKAGE,
    LINEARITY,
    MINIMAL_PAIRS,
    PRECISION,
    REDUNDANCY,
    SEED_SHARE,
    SEEDS_FOR_GO,
    SEEDS_FOR_STABILITY,
    SELECTIVE_SHARE,
    SPECIFICITY,
    STABILITY,
    TRANSFER,
    ZERO_FRACTION,
    Criterion,
)

_ROWS = (
    Criterion(
        name="reconstruction",
        title="The SAE leaves less than 10 % of the activations' variance unexplained.",
        metric="FVU = sum ||x - x_hat||^2 / sum ||x - mu_TRAIN||^2 over TEST tokens (SCIENCE S1). "
        "A fidelity gate, never evidence of interpretability.",
        rivals=(
            "fvu_zero: error over sum ||x||^2",
            "error_above_without_decorrelation: over the error without that term, minus 1",
            "error_above_without_guidance: over the error without guidance, minus 1",
            "cosine",
            "shrinkage: mean ||x_hat|| / ||x||",
            "l0",
        ),
        direction="<=",
        threshold=FVU_LIMIT,
        unit="fraction of variance",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,
        largest_mde=0.09,
        planning_sd=0.005,
        voiding_nulls=("random_dictionary", "frozen_decoder", "frozen_encoder"),
        informational_nulls=("untrained_sae", "soft_frozen_decoder", "gaussian", "random_model", "pca", "neurons"),
        min_seeds=SEEDS_FOR_GO,
        gates=("L0 at most the registered cap, else VOID (SCIENCE S2)",),
        reads_labels=False,
    ),
    Criterion(
        name="sparsity",
        title="In nearly every document more than 90 % of the alive latents are zero.",
        metric="5th percentile over TEST documents of the mean over tokens of the fraction of alive latents "
        "equal to zero (SCIENCE S2). A constraint, not evidence of monosemanticity.",
        rivals=(
            "zero_fraction_all: over all latents",
            "silent_throughout: 5th percentile of the alive latents that are zero on all tokens of a document",
            "l0",
            "dead_fraction",
        ),
        direction=">=",
        threshold=ZERO_FRACTION,
        unit="fraction of alive latents",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,  # 1 - 0.95^59 >= 0.95: with fewer, no document need lie below the true 5th percentile.
        largest_mde=0.91,
        planning_sd=0.005,
        voiding_nulls=(),
        informational_nulls=("random_model",),
        min_seeds=SEEDS_FOR_GO,
        gates=("L0 at most the registered cap, else VOID (SCIENCE S2)",),
        reads_labels=False,
    ),
    Criterion(
        name="fidelity",
        title="The model predicts nearly as well from reconstructed activations as from its own.",
        metric="CE recovered = (CE_ablated - CE_sae) / (CE_ablated - CE_clean), mean ablation, TEST documents "
        "(SCIENCE S1 defines it; the threshold is a choice of this project).",
        rivals=(
            "ce_recovered_zero: with zero ablation, which inflates it",
            "delta_ce, nats per token",
            "kl, nats per token",
        ),
        direction=">=",
        threshold=CE_RECOVERED,
        unit="fraction of cross-entropy",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,
        largest_mde=0.92,
        planning_sd=0.01,
        voiding_nulls=("random_dictionary",),
        informational_nulls=("frozen_decoder", "frozen_encoder", "random_model", "pca", "neurons", "shuffled_decoder"),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            f"lower bound of CE_ablated - CE_clean at least {CE_GAP_NATS} nats per token, else the ratio is undefined",
        ),
        reads_labels=False,
    ),
    Criterion(
        name="alignment",
        title="Nearly every registered factor has a latent of its own.",
        metric="Share of registered factors whose one-to-one matched latent (Hungarian on FIT F1, threshold set "
        f"on FIT) has TEST F1 >= {F1_RECOVERED} in at least {SEED_SHARE:.0%} of seeds (SCIENCE 3.3).",
        rivals=(
            "mean_f1",
            "max_f1_share: without one-to-one, which permits duplicates",
            "coverage: share with some latent at F1 >= 0.9",
        ),
        direction=">=",
        threshold=ALIGNMENT,
        unit="share of factors",
        unit_of_sampling="factor",
        statistic="proportion",
        minimum_n=59,
        largest_mde=0.995,
        voiding_nulls=("random_dictionary", "frozen_decoder", "permuted_labels", "random_model"),
        informational_nulls=("untrained_sae", "soft_frozen_decoder", "gaussian", "circular_shift", "pca", "neurons"),
        min_seeds=SEEDS_FOR_GO,
        gates=("the denominator is the number of registered factors",),
        reads_labels=True,
    ),
    Criterion(
        name="causal_interchange",
        title="Exchanging the latents of one variable between two texts changes what it should, and nothing else.",
        metric=f"CFC: share of registered variable values with null-corrected joint success >= {CORRECTED_J}, "
        f"significant against matched latents (Benjamini-Hochberg), in at least {SEED_SHARE:.0%} of seeds "
        f"(SCIENCE 4.3-4.6). A value whose supervised ceiling is below J = {CEILING_J} or not above the matched "
        "latents cannot be tested and counts as not coherent.",
        rivals=(
            "mean_j: mean joint success over units",
            f"precision: of single latents with an effect, the share that has {SELECTIVE_SHARE:.0%} of it on one "
            f"variable; where its lower bound is below {PRECISION}, a GO says so",
        ),
        direction=">=",
        threshold=COHERENCE,
        unit="share of variable values",
        unit_of_sampling="variable value",
        statistic="proportion",
        minimum_n=14,
        largest_mde=0.95,
        voiding_nulls=("random_model", "permuted_labels", "matched_latents", "random_direction"),
        informational_nulls=(
            "frozen_decoder",
            "soft_frozen_decoder",
            "shuffled_decoder",
            "pca",
            "neurons",
            "wrong_site",
        ),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            "the denominator is the number of registered variable values",
            "every value has the registered number of pairs",
        ),
        reads_labels=True,
    ),
    Criterion(
        name="redundancy",
        title="The decorrelation term removes more than half of the redundancy that the same SAE has without it.",
        metric="rho_geo = 1 - R_geo(beta) / R_geo(0), paired by seed; R_geo: mean over alive latents of the excess of "
        "the largest |cosine| with another over the 95th percentile of that under random_dictionary (SCIENCE S3).",
        rivals=(
            "rho_functional: the same for the share of latents that another one fires like",
            "mean pairwise cos^2 is not computed: the Welch bound leaves it next to nothing to lose",
        ),
        direction=">=",
        threshold=REDUNDANCY,
        unit="share of redundancy removed",
        unit_of_sampling="seed",
        statistic="mean",
        minimum_n=SEEDS_FOR_GO,
        largest_mde=None,
        voiding_nulls=(),  # A random dictionary has no redundancy to lose, and reconstructs nothing: two gates say so.
        informational_nulls=("random_dictionary",),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            "R_geo(0) at least 0.01 in every seed, else VOID: nothing to reduce",
            "same seed, initialisation and data order",
            "L0 within 5 %, alive latents within 10 %, FVU at most 0.01 higher, in every seed",
            "lower bound of the fall in functional redundancy above 0, for a GO",
        ),
        reads_labels=False,
    ),
    Criterion(
        name="stability",
        title="Latents that recur in half of the trainings are found again, pointing and firing alike, by the others.",
        metric="Mean over primitives and held-out seeds of r = min(decoder cosine, activation correlation where either "
        "fires). Primitives: consensus clusters (cosine > 0.9 in 80 % of the seeds that select) that passed the tests "
        "before this one (SCIENCE 6.3).",
        rivals=(
            "pw_mcc: matched cosine of the whole dictionaries (ALT-a)",
            "share_of_dictionary and share_of_energy: how much of the SAE the primitives are",
        ),
        direction=">=",
        threshold=STABILITY,
        unit="correlation",
        unit_of_sampling="seed",
        statistic="mean",
        minimum_n=SEEDS_FOR_STABILITY,
        largest_mde=None,
        voiding_nulls=("random_model", "frozen_decoder"),
        informational_nulls=("random_dictionary",),
        min_seeds=SEEDS_FOR_STABILITY,
        gates=(
            "no shared initialisation, by fingerprint, numbering of the latents, or decoders at the start, else VOID",
            "data order and document shard of its own for every seed",
            "members passed the tests for injected tokens and causal effect",
            "at least 10 primitives",
            "r above 0.7 for 90 % of the primitives, for a GO",
        ),
        reads_labels=False,
    ),
    Criterion(
        name="transfer",
        title="What is fitted on one model or task serves another nearly as well as what is fitted there.",
        metric="T = (s_AB - s_null) / (s_BB - s_null), s_null the best of random_dictionary, frozen_decoder and pca at "
        "the same budget (SCIENCE 6.4; the threshold is a choice of this project).",
        rivals=("raw_ratio: s_AB / s_BB, near 1 for two numbers at the null",),
        direction=">=",
        threshold=TRANSFER,
        unit="share of the effect",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,
        largest_mde=None,
        voiding_nulls=(),  # They are in the formula: transfer between two of them is undefined.
        informational_nulls=("random_dictionary", "frozen_decoder", "pca"),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            "all three nulls measured, else NOT_RUN",
            "lower bound of s_BB - s_null above 0, else the ratio is undefined",
        ),
        reads_labels=False,
    ),
    Criterion(
        name="causal_attribution",
        title="The latents that seem to drive the task on FIT do so on TEST, in proportion to the push.",
        metric="Of the registered number of alive latents with the largest slope of the task score on FIT: the share, "
        "mean over seeds, that on TEST has an effect of one standard deviation which is positive, significant against "
        "random directions of the same norm at the same sites (Benjamini-Hochberg over ALL alive latents), among the "
        f"top 5 % of the decoder's rows there, linear (R^2 >= {LINEARITY} over the small doses, or sign symmetry >= "
        f"{LINEARITY}) and specific (share of its mass on one readout >= {SPECIFICITY}) (SCIENCE 7; the threshold is a "
        "choice of this project).",
        rivals=(
            "significant: share of all alive latents, mean over seeds",
            "ranks: share of ranks by FIT slope whose latent passes in most seeds",
        ),
        direction=">=",
        threshold=ATTRIBUTION,
        unit="share of latents",
        unit_of_sampling="latent",
        statistic="proportion",
        minimum_n=14,
        largest_mde=0.95,
        voiding_nulls=("random_model", "random_direction", "shuffled_decoder"),
        informational_nulls=("matched_latents",),
        min_seeds=SEEDS_FOR_GO,
        gates=("the denominator is the registered number of latents per seed; one that is missing fails",),
        reads_labels=False,
    ),
    Criterion(
        name="leakage",
        title="Guiding the SAE with step labels adds no label information that the model did not compute.",
        metric="The worst of four guided-minus-baseline differences in probe accuracy: memorisation of control labels, "
        "template shortcut, cue following, a model with random weights (SCIENCE 5.4).",
        rivals=(
            "alt_a_difference: |guided - baseline| on UNSEEN, which would reward useless guidance",
            "alt_b_residual: accuracy above chance that is left without the designated latents",
            "benefit: guided - baseline on minimal pairs",
        ),
        direction="<=",
        threshold=LEAKAGE,
        unit="balanced accuracy",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=248,  # 80 % power for a difference <= 0.05 at a discordance of 0.1 (SCIENCE 0.8).
        largest_mde=None,
        # Its nulls are inside: control labels and the random model are channels, permuted labels and the surface model
        # tripwires. Guidance by permuted labels leaks nothing and is stopped by the benefit.
        voiding_nulls=(),
        informational_nulls=(),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            "no accuracy of 0.99 or more on UNSEEN or PAIR",
            "guided latents more than 0.05 above the surface model on UNSEEN and PAIR",
            "guided latents at most 0.02 above the best probe on raw activations",
            "permuted labels cannot be read",
            "no text in two splits",
            "the guided probe's weight is not on position-coded latents",
            f"at least {MINIMAL_PAIRS} minimal pairs",
            "lower bound of the benefit on minimal pairs above 0; an upper bound of at most "
            f"{BENEFIT_NEGLIGIBLE} is no benefit",
        ),
        reads_labels=True,
    ),
    Criterion(
        name="brittleness",
        title="Matched latents detect their factors as well when the text changes and its meaning does not.",
        metric="Relative loss of mean F1 of the one-to-one matched latents, thresholds from clean FIT text, under the "
        "worst of paraphrase, token injection, cue removal and length shift (SCIENCE 7; the threshold is a choice of "
        "this project).",
        rivals=("the loss under each perturbation", "clean_score"),
        direction="<=",
        threshold=BRITTLENESS,
        unit="relative loss",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,
        largest_mde=None,
        voiding_nulls=("random_dictionary", "permuted_labels", "random_model"),
        informational_nulls=(),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            f"lower bound of the score on clean text at least {DETECTED}, else there is nothing to lose",
            "all four perturbations were measured",
        ),
        reads_labels=True,
    ),
)

CRITERIA: dict[str, Criterion] = {row.name: row for row in (*_ROWS, *OF_CAPTURE)}


def choose_criteria(names: tuple[str, ...]) -> tuple[Criterion, ...]:
    """The rows called `names`; BadInput for an unknown or repeated one, or none."""
    for name in names:
        if name not in CRITERIA:
            raise BadInput(
                f"protocol.criteria holds {name!r}", f"allowed: {', '.join(CRITERIA)}", "correct the name or remove it"
            )
    if not names or len(set(names)) != len(names):
        raise BadInput(
            f"protocol.criteria={list(names)}",
            "allowed: at least one, each once",
            "type protocol.criteria=[reconstruction]",
        )
    return tuple(CRITERIA[name] for name in names)


def judges_capture(names: tuple[str, ...]) -> bool:
    """Whether these criteria are about capture itself, so that no SAE is trained; BadInput for a mixture."""
    rows = choose_criteria(names)
    capture = [row.name for row in rows if row.min_seeds == 0]
    saes = [row.name for row in rows if row.min_seeds > 0]
    if capture and saes:
        raise BadInput(
            f"protocol.criteria holds {capture[0]} and {saes[0]}",
            "allowed: criteria of capture alone, or of SAEs alone",
            f"type protocol.criteria=[{','.join(capture)}], and ask for the others in an experiment of their own",
        )
    return bool(capture)
