from pathlib import Path

import pytest

from raysae.report import ReportData, collect, render

from .costs import build_costs
from .fixture import build_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: a test that changes a run builds its own."""
    return build_run(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture(scope="session")
def run(run_folder: Path) -> ReportData:
    return collect(run_folder)


@pytest.fixture(scope="session")
def page(run: ReportData) -> str:
    return render(run)


@pytest.fixture(scope="session")
def costs_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an experiment about capture."""
    return render(collect(build_costs(tmp_path_factory.mktemp("runs") / "costs")))
