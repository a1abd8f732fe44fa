"""The page of an experiment about capture: its numbers, and none of the sections that are about SAEs."""

import re

from raysae.report.overhead import section

from .costs import shown


def test_the_table_holds_the_median_of_each_kind_of_run() -> None:
    found = section(shown(), {"batch_size": 8, "sequence_length": 256, "batches": 1})
    assert found is not None
    base, hooked, captured, whole = ((row["seconds"], row["rate"], row["rise"]) for row in found["rows"])
    assert base == ("2.0 s", "1,024", "–") and hooked == ("2.1 s", "975", "+5.0%")
    assert captured[0] == "2.2 s" and captured[2].startswith(("+9.9%", "+10."))
    assert whole == ("5.0 s", "410", "+150.0%")
    facts = dict(found["facts"])
    assert facts["one run"] == "1 batch of 8 x 256 tokens, 2,048 in all"
    assert facts["peak of resident memory (CPU, not the criterion)"] == "2 GB without hooks, 2.1 GB captured"
    assert section(None, {}) is None


def test_the_page_asks_and_answers_what_capture_costs(costs_page: str) -> None:
    assert "Does what it costs to capture layers.6.resid_post of gpt2 with random weights meet 3 criteria" in costs_page
    assert "124,439,808 parameters in float32" in costs_page and "The token ids are drawn" in costs_page
    outcomes = re.findall(r'data-criterion="(\w+)".*?badge (\w+)', costs_page, re.S)
    assert outcomes == [
        ("capture_latency", "GO"),
        ("capture_throughput", "NO_GO"),
        ("capture_memory", "INCONCLUSIVE"),
    ]
    assert "100.0 MB, 1.00% of physical memory" in costs_page and "NOT_RUN" in costs_page


def test_the_page_has_no_section_about_what_was_not_trained(costs_page: str) -> None:
    anchors = set(re.findall(r'<section id="(\w+)"', costs_page))
    assert anchors == {
        "verdict", "overhead", "intervals", "also", "gates", "protocol", "resources", "provenance", "check",
    }  # fmt: skip
    assert set(re.findall(r'<a href="#(\w+)"', costs_page)) == anchors
    assert "0 seeds" not in costs_page
