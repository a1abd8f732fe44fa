"""Made-up metrics, one for each outcome and reason, and the verdict on them."""

from raysae.types import CriterionVerdict, Gate, Metric, NullValue, Outcome, Reason, Verdict

CRITERIA = ("reconstruction", "sparsity", "fidelity", "alignment", "causal_interchange")


def null(mean: float | None, p95: float | None, n: int = 1, note: str = "") -> NullValue:
    interval = None if mean is None else (mean - 0.01, mean + 0.01)
    return NullValue(mean=mean, p95=p95, interval=interval, n=n, note=note)


def metrics() -> dict[str, Metric]:
    fvu_nulls = {"random_dictionary": null(0.871, 0.874), "random_model": null(0.0391, 0.0412, 2, "informational")}
    cap = Gate(name="l0_cap", passed=False, detail="L0 8.0, limit 6.4 = 0.1 d_in", failure=Reason.VOID)
    return {
        "reconstruction": Metric(
            name="fvu",
            unit="fraction of variance",
            direction="<=",
            value=0.0432,
            interval=(0.0401, 0.0466),
            n=400,
            unit_of_sampling="document",
            seeds=2,
            per_seed=(0.0425, 0.0439),
            nulls=fvu_nulls,
            also={"cosine": 0.981, "fvu_zero": 0.0212},
        ),
        "sparsity": Metric(
            name="zero_fraction",
            unit="share of alive latents",
            direction=">=",
            value=0.9812,
            interval=(0.9805, 0.9817),
            n=400,
            unit_of_sampling="document",
            seeds=2,
            gates=(cap,),
            nulls={"random_dictionary": null(0.984, 0.985)},
            also={"l0": 8.01, "zero_fraction_all": 0.9843},
        ),
        "fidelity": Metric(
            name="ce_recovered",
            unit="share",
            direction=">=",
            value=0.962,
            interval=(0.931, 0.981),
            n=400,
            unit_of_sampling="document",
            seeds=2,
            nulls={"random_dictionary": null(0.12, 0.15, 2)},
            also={"kl": 0.00004, "delta_ce": 0.071},
        ),
        "alignment": Metric(
            name="alignment",
            unit="share of factors",
            direction=">=",
            value=0.417,
            interval=(0.292, 0.551),
            n=48,
            unit_of_sampling="factor",
            seeds=2,
            nulls={
                "permuted_labels": null(0.0, 0.021, 200),
                "random_dictionary": null(0.0, 0.0, 2),
                "random_model": null(0.104, 0.125, 2),
            },
            ceiling=0.979,
            also={"mean_f1": 0.831, "coverage": None},
        ),
        "causal_interchange": Metric(
            name="coherent_units",
            unit="share of units",
            direction=">=",
            value=0.722,
            interval=(0.502, 0.883),
            n=18,
            unit_of_sampling="variable value",
            seeds=2,
            nulls={
                "matched_latents": null(0.0, 0.0, 200),
                "random_direction": null(0.0, 0.0, 200),
                "random_model": null(0.0, 0.0, 2),
                "permuted_labels": null(0.056, 0.111, 20),
            },
            ceiling=1.0,
            gates=(Gate(name="task_accuracy", passed=True, detail="0.998 of state-determined tokens, limit 0.95"),),
        ),
    }


def verdict(measured: dict[str, Metric], sha256: str, overrides: tuple[str, ...] = ()) -> Verdict:
    decided = {
        "reconstruction": (Outcome.GO, None, 0.1, "The whole interval lies below 0.1 and the random dictionary fails."),
        "sparsity": (
            Outcome.INCONCLUSIVE,
            Reason.VOID,
            0.9,
            "L0 8.0 exceeds its cap of 6.4, so the two are not judged at one point.",
        ),
        "fidelity": (
            Outcome.INCONCLUSIVE,
            Reason.UNDERPOWERED,
            0.95,
            "The interval reaches from 0.931 to 0.981 and holds 0.95.",
        ),
        "alignment": (Outcome.NO_GO, None, 0.95, "The whole interval lies below 0.95."),
        "causal_interchange": (
            Outcome.INCONCLUSIVE,
            Reason.UNDERPOWERED,
            0.8,
            "18 units cannot carry the claim; 60 are needed.",
        ),
    }
    rows: dict[str, CriterionVerdict] = {}
    for name, metric in measured.items():
        outcome, code, threshold, reason = decided[name]
        shared = metric.model_dump(include={"value", "interval", "direction", "unit", "n", "unit_of_sampling", "nulls"})
        rows[name] = CriterionVerdict(outcome=outcome, reason_code=code, reason=reason, threshold=threshold, **shared)
    return Verdict(
        outcome=Outcome.NO_GO,
        protocol_sha256=sha256,
        mode="exploratory",
        criteria=rows,
        overrides=overrides,
        remarks=("Made-up numbers: this page is a fixture.", "An exploratory run counts for no gate."),
    )
