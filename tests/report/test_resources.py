"""The section on what a run took: a plan stands below what came of it, and what was not counted is a dash."""

import re
from dataclasses import replace

from raysae.report import ReportData, render
from raysae.report.resources import section

from .fixture import resources


def test_planned_stands_below_actual_and_costs_are_summed_in_their_currency(page: str) -> None:
    shown = re.search(r'<section id="resources">.*?</section>', page, re.S)
    assert shown
    assert '24.9 s<br><span class="soft">31.0 s</span>' in shown[0]
    assert '802,468<br><span class="soft">802,468</span>' in shown[0]
    assert '271 MB<br><span class="soft">310 MB</span>' in shown[0]
    assert "0.00199 USD" in shown[0], "(3.2 + 24.9 + 61.4) s x 2 cores x 0.04 USD an hour"
    assert "tokens counted in 14 blocks; timed by a rehearsal on this machine" in shown[0]


def test_without_prices_there_is_no_column_of_costs_and_without_a_plan_no_second_line(run: ReportData) -> None:
    ledger = resources() | {"prices": None, "planned": None}
    ledger["stages"] = {name: row | {"cost": None, "read_bytes": 0} for name, row in ledger["stages"].items()}
    page = render(replace(run, resources=ledger))
    assert "USD" not in page and '<br><span class="soft">31.0 s' not in page
    found = section(ledger, None)
    assert found is not None and {row["read"] for row in found["rows"]} == {"–"}
    assert section(None, None) is None
