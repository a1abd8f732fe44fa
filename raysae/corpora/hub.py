"""The files of a corpus from the Hugging Face hub, at a pinned revision, as a folder that is read like any other.

Files are fetched as they are, never through a loading script, and stay in the hub's own cache, so that a second reading
needs no network.
"""

from collections.abc import Sequence
from pathlib import Path

from raysae.errors import BadInput


def snapshot(
    corpus: str, hub_id: str | None, revision: str | None, patterns: Sequence[str], *, gated: bool = False
) -> Path:
    """The folder that holds the files matching `patterns`. BadInput when they cannot be had, with what to do."""
    cure = f"type corpus.path=<a file or folder of {corpus}>"
    if hub_id is None:
        raise BadInput(f"corpus.name={corpus} without corpus.path", "allowed: local files", cure)
    import huggingface_hub
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # its retries are not news; the outcome is
    wanted = {"repo_type": "dataset", "revision": revision, "allow_patterns": list(patterns)}
    try:
        try:
            return Path(huggingface_hub.snapshot_download(hub_id, local_files_only=True, **wanted))
        except huggingface_hub.errors.LocalEntryNotFoundError:
            _reach(hub_id, revision)
            return Path(huggingface_hub.snapshot_download(hub_id, **wanted))
    except Exception as error:  # which HTTP library the hub client uses, and so what it raises, differs by release
        message = " ".join(str(error).split())[:200] or type(error).__name__
        if gated:
            cure = f"accept the terms at huggingface.co/datasets/{hub_id} and set HF_TOKEN, or {cure}"
        raise BadInput(
            f"{hub_id} cannot be read from the hub ({message})", "allowed: the hub, or local files", cure
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def _reach(hub_id: str, revision: str | None) -> None:
    """One request without retries: the library's own take half a minute to find that there is no network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    get_hf_file_metadata(hf_hub_url(hub_id, ".gitattributes", repo_type="dataset", revision=revision), timeout=10)
