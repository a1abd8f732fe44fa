"""The page that goes with an exported SAE: what it is, what was decided about it, how to load it."""

from typing import Any

from raysae.saes.base import SparseAutoencoder
from raysae.types import Verdict

LOAD = {
    "saelens": 'from sae_lens import SAE\n\nsae = SAE.load_from_disk("{folder}")',
    "sparsify": 'from sparsify import SparseCoder\n\nsae = SparseCoder.load_from_disk("{folder}")',
    "dictionary_learning": "from dictionary_learning.utils import load_dictionary\n\n"
    'dictionary, config = load_dictionary("{folder}", device="cpu")',
}
UNDECIDED = (
    "Nothing has been decided about it: no protocol was run. A low reconstruction error is no evidence that its "
    "latents mean anything; a random model is often reconstructed better than a real one."
)


def card(
    sae: SparseAutoencoder,
    provenance: dict[str, Any],
    library: str,
    folder: str,
    base: str | None,
    verdict: Verdict | None,
) -> str:
    """Markdown. `base` is the hub id of the language model, `verdict` that of the run the SAE belongs to."""
    head = ["---", f"library_name: {library}", "tags: [sparse-autoencoder]", *([f"base_model: {base}"] if base else [])]
    facts = {
        "architecture": sae.architecture + (f", k = {sae.k}" if sae.needs_k else ""),
        "size": f"d_in {sae.d_in:,} -> d_sae {sae.d_sae:,}, decoder rows of norm 1",
        "reads": f"{provenance.get('hook_name')} of {provenance.get('model_name')}, as it is (input scale folded in)",
        "trained as": f"arm {provenance.get('arm')}, seed {provenance.get('seed')} of {provenance.get('experiment')}",
        "fingerprint": provenance.get("fingerprint"),
    }
    table = [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    decided = _decided(verdict) if verdict else [UNDECIDED]
    load = LOAD[library].format(folder=folder)
    lines = [
        *head,
        "---",
        "",
        f"# {provenance.get('model_name')}, {provenance.get('hook_name')}: a sparse autoencoder",
        "",
    ]
    lines += ["| | |", "| --- | --- |", *table, "", "## What was decided", "", *decided, ""]
    return "\n".join([*lines, "## Load it", "", "```python", load, "```", ""])


def _decided(verdict: Verdict) -> list[str]:
    """The rows of the verdict; they judge the experiment, all its seeds, not this one file."""
    mode = "confirmatory" if verdict.mode == "confirmatory" else "exploratory, so that it opens no gate"
    lines = [
        f"**{verdict.outcome}** ({mode}), over all SAEs of the experiment; "
        f"protocol `{verdict.protocol_sha256[:16]}`, sealed before training.",
        "",
        "| criterion | outcome | value | 90 % interval | asked |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in verdict.criteria.items():
        value = "–" if row.value is None else f"{row.value:.3f}"
        interval = "–" if row.interval is None else f"[{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
        reason = f" ({row.reason_code})" if row.reason_code else ""
        asked = f"{row.direction} {row.threshold:g} {row.unit}"
        lines.append(f"| {name} | {row.outcome}{reason} | {value} | {interval} | {asked} |")
    return lines
