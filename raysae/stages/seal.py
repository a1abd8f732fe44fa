"""Fix the protocol before anything is captured: criteria, nulls, splits by content, registered units, power."""

from collections.abc import Mapping

import numpy as np

from raysae.errors import BadInput
from raysae.falsification.criteria import judges_capture
from raysae.falsification.criterion import l0_cap
from raysae.falsification.metrics.alignment import register_factors
from raysae.falsification.phases import NOTHING, Footing
from raysae.falsification.power import power, refuse_underpowered
from raysae.falsification.protocol import Protocol, draft
from raysae.falsification.protocol import seal as write_seal
from raysae.models.capture import width
from raysae.models.load import describe, model_inputs
from raysae.models.maps import is_map
from raysae.stages import overhead
from raysae.stages.ingest import WORLDS
from raysae.stages.jobs import document_shard
from raysae.stages.measure import factor_matrix, factor_names, first_documents, read_labels
from raysae.stages.other_model import check as check_other_model
from raysae.stages.other_run import EXCLUSION
from raysae.stages.other_run import check as check_other_run
from raysae.stages.provenance import commit
from raysae.stages.registration import note, splits
from raysae.store import RunFolder, TokenStore, records_of
from raysae.types import CorpusRecord, Experiment, Split
from raysae.types.experiment import fingerprint, stream_seed

MINIMUM_TEST_TOKENS = 200
"""A factor that is expected on fewer TEST tokens is not registered (SCIENCE 3.2)."""

INTERCHANGE = "causal_interchange"

MINIMUM_PAIRS = 20
"""A value with fewer informative pairs is not registered: its J would be too coarse to correct for a null."""


def seal(experiment: Experiment, folder: RunFolder, footing: Footing = NOTHING) -> Protocol:
    """Write `protocol.json` and the ledger's line that witnesses it. Refused when it exists with another content or a
    confirmatory protocol lacks power."""
    protocol = registered(experiment, folder, footing)
    refuse_underpowered(protocol.mode, power(protocol))
    note(folder.ledger, "seal", protocol, {"mode": protocol.mode})  # first: a seal without a witness counts for nothing
    write_seal(protocol, folder.protocol)
    return protocol


def registered(experiment: Experiment, folder: RunFolder, footing: Footing) -> Protocol:
    """The protocol of an experiment and the text it has tokenized."""
    if judges_capture(experiment.protocol.criteria):
        return overhead.registered(experiment, folder, footing)
    tokens = TokenStore(folder.tokens)
    _enough_tokens(experiment, tokens)
    config, states = experiment.protocol, is_map(experiment.model)
    fit = read_labels(tokens, Split.FIT, config.test_tokens)
    test = list(first_documents(tokens, Split.TEST, config.test_tokens))
    names = factor_names(fit)
    audit = register_factors(factor_matrix(fit, names), sum(used for _, _, used in test), names, MINIMUM_TEST_TOKENS)
    return draft(
        experiment,
        l0_cap=l0_cap(width(describe(experiment.model), experiment.hookpoint), states, held_at_once(fit)),
        splits=splits(tokens),
        test_documents=min(config.test_documents, sum(block.rows for block in tokens.blocks(Split.TEST))),
        activation_documents=sum(count for _, count, _ in test),
        factors=audit.kept,
        dropped_factors=audit.dropped,
        causal_units=audit.kept if states and INTERCHANGE in config.criteria else causal_units(experiment, folder),
        model_sha256=fingerprint(model_inputs(experiment.model)),
        tokenizer_sha256=tokens.manifest.extra["tokenizer_sha256"],
        commit=commit(),
        transfer_from=(other := check_other_run(experiment)),
        map_from=check_other_model(experiment),
        exclusions=(EXCLUSION,) if other else (),
        footing=footing,
    )


def held_at_once(labels: Mapping[str, np.ndarray]) -> float:
    """Mean number of labels on a token: of a world of states the true L0."""
    return sum(float(np.mean([value is not None for value in values])) for values in labels.values())


def causal_units(experiment: Experiment, folder: RunFolder) -> tuple[str, ...]:
    """`variable=value` with enough informative pairs in TEST; none for a corpus without a program."""
    if INTERCHANGE not in experiment.protocol.criteria:
        return ()
    found = []
    worlds = [WORLDS[name] for name in experiment.corpus.names if name in WORLDS]
    records = test_records(folder) if worlds else []
    for world in worlds:
        for variable, values in world.VARIABLES.items():
            for value in values:
                if (
                    len(world.interchange_pairs(records, variable, value, MINIMUM_PAIRS, pair_seed(experiment)))
                    >= MINIMUM_PAIRS
                ):
                    found.append(f"{variable}={value}")
    return tuple(found)


def pair_seed(experiment: Experiment) -> int:
    return stream_seed(experiment.seed, "interchange")


def test_records(folder: RunFolder) -> list[CorpusRecord]:
    """Every TEST record of the corpus."""
    return list(records_of(folder.corpus, Split.TEST))


def _enough_tokens(experiment: Experiment, tokens: TokenStore) -> None:
    have = sum(block.facts["tokens"] for block in tokens.blocks(Split.TRAIN))
    need = experiment.train.batch_tokens
    if have < need:
        raise BadInput(
            f"TRAIN has {have} tokens",
            f"train.batch_tokens={need} asks for more",
            "pass more records or a smaller train.batch_tokens",
        )
    if experiment.train.documents == "own":
        _enough_for_each(experiment, tokens)


def _enough_for_each(experiment: Experiment, tokens: TokenStore) -> None:
    """Of shards too: every seed needs documents of its own for a batch."""
    blocks, seeds = tokens.blocks(Split.TRAIN), experiment.train.seed_numbers
    need = experiment.train.batch_tokens
    shards = [document_shard(experiment, number) for number in seeds]
    least = min(sum(block.facts["tokens"] for block in shard.of(blocks)) for shard in shards if shard)
    if least < need:
        whole = sum(block.facts["tokens"] for block in blocks)
        raise BadInput(
            f"train.documents=own deals {len(blocks)} token blocks of TRAIN to {len(seeds)} seeds, and one gets "
            f"{least} tokens",
            f"allowed: {need} (train.batch_tokens) for each",
            f"type tokenizer.block_tokens={max(whole // (4 * len(seeds)), 1)}, or train.documents=shared",
        )


def power_lines(protocol: Protocol) -> list[str]:
    """Why criteria cannot reach GO with what is planned: one line per reason, with the criteria it concerns."""
    concerned: dict[str, list[str]] = {}
    for row in power(protocol):
        if row.obstacles:
            concerned.setdefault(row.obstacles[0], []).append(row.criterion)
    everything = len(protocol.criteria)
    return [
        f"{'every criterion' if len(names) == everything else ', '.join(names)}: {reason}"
        for reason, names in concerned.items()
    ]
