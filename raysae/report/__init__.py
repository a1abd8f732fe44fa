"""One self-contained offline page per run: the verdict first, then the evidence it rests on."""

from raysae.report.data import ReportData
from raysae.report.page import collect, render, write

__all__ = ["ReportData", "collect", "render", "write"]
