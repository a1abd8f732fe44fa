"""Folders of immutable blocks, the manifest that completes each, and the ledger of runs."""

from raysae.store.activations import ActivationStore, GuideColumns
from raysae.store.atomic import sha256_file, write_atomic, write_json
from raysae.store.ledger import Ledger
from raysae.store.manifest import (
    BlockInfo,
    Manifest,
    describe_file,
    finished_blocks,
    holds,
    write_block,
)
from raysae.store.records import RecordBlocks, read_records, records_of
from raysae.store.run_folder import RunFolder
from raysae.store.state import Checkpoints, load_state, save_state
from raysae.store.tokens import TokenStore

__all__ = [
    "ActivationStore",
    "BlockInfo",
    "Checkpoints",
    "GuideColumns",
    "Ledger",
    "Manifest",
    "RecordBlocks",
    "RunFolder",
    "TokenStore",
    "describe_file",
    "finished_blocks",
    "holds",
    "load_state",
    "read_records",
    "records_of",
    "save_state",
    "sha256_file",
    "write_atomic",
    "write_block",
    "write_json",
]
