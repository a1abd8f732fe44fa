"""The layout of a run folder, in one place."""

from raysae.store.ledger import LEDGER, Ledger
from raysae.types import Experiment


class RunFolder:
    """Where everything of one experiment lies."""

    def __init__(self, experiment: Experiment) -> None:
        self.root = experiment.folder.expanduser().absolute()
        self.experiment = self.root / "experiment.json"
        self.corpus = self.root / "corpus"
        self.tokens = self.root / "tokens"
        self.labels = self.root / "labels"
        self.alignment = self.root / "alignment"
        self.quality = self.root / "quality"
        self.protocol = self.root / "protocol.json"
        self.activations = self.root / "activations"
        self.overhead = self.root / "overhead"
        self.sweep = self.root / "sweep"
        self.sae = self.root / "sae"
        self.metrics = self.root / "metrics"
        self.verdict = self.root / "verdict.json"
        self.record = self.root / "record.json"
        self.report = self.root / "report.html"
        self.resources = self.root / "resources.json"
        self.speeds = self.root.parent / "speeds.json"
        self.ledger = Ledger(self.root.parent / LEDGER)
