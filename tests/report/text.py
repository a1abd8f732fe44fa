"""What the quality stage would have written for the fixture's run."""

from typing import Any

PIECES: list[dict[str, Any]] = [
    {"text": "Ann has 3 hats & <b>.\n"},
    {"text": "She buys 4, so 3 + 4 = 7.", "step": 0, "type": "OPERATE", "confidence": 1.0},
    {"text": " "},
    {"text": "Now let x be the rest.", "step": 1, "type": "DECOMPOSE", "confidence": 0.67},
    {"text": " And "},
    {"text": "so on", "step": -1, "type": None, "confidence": 0.0},
    {"text": " or not", "step": -1, "type": None, "confidence": 0.67},
    {"text": "\nSo 7"},
    {"left_out": 1234},
]


def quality() -> dict[str, Any]:
    figures = {
        "documents": 8000,
        "tokens": 401_234,
        "with_cot": 1.0,
        "redistribute": True,
        "quarantined": {"rows": 3, "share": 0.000375, "reasons": {"the answer has no '####'": 3}},
        "steps": 24_017,
        "coverage": 0.9996,
        "step_tokens": 264_187,
        "abstention": 0.0012,
        "types": {"OPERATE": 20_000, "DECOMPOSE": 4_000, "UNKNOWN": 17},
        "lengths": {"longest": 213, "histogram": [[16, 31, 4000], [32, 63, 3000], [64, 127, 900], [128, 255, 100]]},
        "agreement": {
            "alpha": 0.987, "interval": [0.981, 0.992], "null_mean": 0.01, "null_p95": 0.03, "void": False,
            "documents": 1000,
        },
        "invariance": {"changed": 0.0004, "documents": 100, "kinds": {"space doubled": 0.0, "mark left out": 0.0008}},
        "known_spans": {
            "documents": 1000,
            "token_f1": {"value": 0.998, "low": 0.996},
            "boundary_f1": {"value": 0.995, "low": 0.991},
        },
    }  # fmt: skip
    bare = {
        "documents": 120, "tokens": 9_000, "with_cot": 0.0, "redistribute": False,
        "quarantined": {"rows": 0, "share": 0.0, "reasons": {}}, "steps": 0, "coverage": None, "step_tokens": 0,
        "abstention": None, "types": {}, "lengths": {"longest": 90, "histogram": [[64, 127, 120]]},
        "agreement": {"alpha": None, "interval": None, "null_mean": None, "null_p95": None, "void": False,
            "documents": 0},
        "invariance": {"changed": 0.0, "documents": 12, "kinds": {}}, "known_spans": None,
    }  # fmt: skip
    samples = [
        {"record": f"{name}/generated/{i}", "corpus": name, "pieces": PIECES}
        for i in range(2)
        for name in ("arithmetic_cot", "wiqa")
    ]
    return {
        "limits": {"min_coverage": 0.95, "max_abstention": 0.05, "sample_documents": 1000},
        "breaches": [],
        "corpora": {"arithmetic_cot": figures, "wiqa": bare},
        "samples": samples,
    }
