"""The section on the text: every figure and sample has its place, and a page without them says so."""

import re
from dataclasses import replace

from raysae.report import ReportData, render
from raysae.report.quality import sample_html, section

from .text import PIECES, quality


def text_section(page: str) -> str:
    found = re.search(r'<section id="text">.*?</section>', page, re.S)
    assert found
    return found[0]


def test_every_corpus_has_a_row_and_a_missing_figure_is_a_dash(page: str) -> None:
    rows = re.findall(r"<tr><td><b>(\w+)</b>.*?</tr>", text_section(page), re.S)
    assert rows == ["arithmetic_cot", "wiqa"]
    (_, bare) = section(quality())["rows"]  # type: ignore[index]  # there is one
    assert [bare[key] for key in ("coverage", "abstention", "alpha", "null")] == ["–"] * 4
    assert bare["interval"] == ""


def test_the_page_shows_alpha_with_its_null_and_the_fit_to_known_spans(page: str) -> None:
    shown = text_section(page)
    for figure in ("0.987", "[0.981, 0.992]", "0.030", "token F1 0.998, at least 0.996"):
        assert figure in shown


def test_a_breach_is_named_above_the_table(run: ReportData) -> None:
    said = quality() | {"breaches": ["gsm8k: share of steps found 0.5, allowed: at least 0.95 (quality.min_coverage)"]}
    shown = text_section(render(replace(run, quality=said)))
    assert shown.index("Beyond its limit: gsm8k") < shown.index("<table")


def test_a_sample_is_the_text_with_its_steps_marked_and_nothing_in_it_is_markup() -> None:
    html = str(sample_html(PIECES))
    bare = re.sub(r'<span class="kind">.*?</span>|<span class="cut">.*?</span>', "", html)
    assert re.sub(r"<[^>]*>", "", bare).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == "".join(
        piece.get("text", "") for piece in PIECES
    )
    assert '<span class="kind">1 OPERATE</span><span class="step s0"' in html
    assert '<span class="kind">2 DECOMPOSE</span><span class="step s1 odd"' in html
    assert '<span class="tie" title="no majority">so on</span>' in html
    assert "<b>" not in html
    assert "1,234 characters more" in html


def test_text_that_may_not_be_passed_on_says_so(page: str) -> None:
    assert text_section(page).count("do not allow passing this text on") == 2


def test_a_run_without_the_figures_says_so(run: ReportData) -> None:
    assert "was not measured" in text_section(render(replace(run, quality=None)))
