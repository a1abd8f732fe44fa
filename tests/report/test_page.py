"""The page as text: complete, self-contained, safe, and the same for the same run."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from raysae.errors import BadInput, Refused
from raysae.report import ReportData, collect, phases, render, write
from raysae.report.contexts import context_html
from raysae.report.words import FVU_GUARD

from .fixture import build_run
from .judged import CRITERIA

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


class Elements(HTMLParser):
    """Every tag with its attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def test_nothing_is_fetched_from_outside(page: str) -> None:
    found = Elements(page).tags
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & {tag for tag, _ in found}
    for tag, attributes in found:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"<{tag} {name}>"
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                assert value is not None and value.startswith("#"), f"<{tag} {name}={value}>"
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*[\"']?([^)\"']*)", page))
    assert not re.search(r"https?://|@import|//cdn", page)


def test_every_criterion_of_the_verdict_has_a_row_before_any_figure(page: str, run: ReportData) -> None:
    rows = re.findall(r'<tr role="row" data-criterion="([^"]*)".*?</tr>', page, re.S)
    assert tuple(rows) == tuple(run.verdict["criteria"]) == CRITERIA
    assert page.index('id="verdict"') < page.index("<figure")
    for name, row in run.verdict["criteria"].items():
        html = _row(page, name)
        assert f">{row['outcome']}<" in html and row["reason"] in html
        for null in row["nulls"]:
            assert null.replace("_", " ") in html
        if row["reason_code"]:
            assert row["reason_code"] in html


def test_a_row_holds_value_interval_threshold_and_sample(page: str) -> None:
    row = " ".join(" ".join(Elements(_row(page, "reconstruction")).words).split())
    for expected in (
        "0.0432",
        "[0.0401, 0.0466]",
        "≤ 0.1",
        "fraction of variance",
        "400 documents",
        "2 seeds",
        "0.871 / 0.874",
    ):
        assert expected in row


def test_the_fvu_row_and_no_other_says_what_fvu_is_not(page: str) -> None:
    assert [name for name in CRITERIA if FVU_GUARD in _row(page, name)] == ["reconstruction"]


def test_the_template_never_speaks_of_monosemantic_latents() -> None:
    folder = Path(render.__code__.co_filename).parent
    for path in (*folder.glob("*.py"), folder / "page.html"):
        assert "monosemantic" not in path.read_text(encoding="utf-8").lower()


def test_the_mode_is_said_plainly(run: ReportData, page: str) -> None:
    assert "EXPLORATORY" in page and "opens no gate" in page
    sure = render(replace(_bare(run), verdict=run.verdict | {"mode": "confirmatory", "criteria": {}}))
    assert "CONFIRMATORY" in sure and "EXPLORATORY" not in sure


def test_empty_counts_of_the_corpus_are_said_in_words(run: ReportData) -> None:
    extra = {"records": {"TRAIN": 5}, "quarantined": 0, "reasons": {}, "duplicates": {}, "quarantine_files": []}
    data = render(replace(run, corpus=extra)).split('<section id="data">')[1].split("</section>")[0]
    assert "{}" not in data and "reasons" not in data and "<dt>duplicates</dt><dd>none</dd>" in data


def test_the_phases_before_are_shown_with_hash_date_and_override(page: str) -> None:
    section = page[page.index('<section id="phases">') :].split("</section>")[0]
    rows = [" ".join(" ".join(Elements(row).words).split()) for row in section.split("<tr>")[2:]]
    assert (
        rows[0]
        == "1 first phase1 and 1 other decision of this phase NO_GO confirmatory 2030-01-01 00:00:00 UTC f8f8f8f8f8f8"
    )
    assert rows[1].startswith("2 overridden: phase 1 falls short") and "2030-01-02 03:07:45 UTC" in rows[1]
    header = page.split("</header>")[0]
    assert "STARTED WITHOUT THE GATE" in header and "phase 2: phase 1 falls short" in header


def test_a_phase_that_nobody_ran_has_no_open_gate_before_it(run: ReportData) -> None:
    links = [{"phase": 1, "experiment": "a"}, {"phase": 2, "experiment": "b"}, {"phase": 3}]
    protocol = run.protocol | {"phase": 4, "chain": links, "overrides": ["phase 4: a look"]}
    gates = [row["gate"] for row in phases.chain(replace(run, protocol=protocol))]
    assert gates == ["first", "open", "–", "overridden: a look"]


def test_a_run_outside_the_phases_has_no_such_section(costs_page: str) -> None:
    assert 'id="phases"' not in costs_page and "GATE" not in costs_page and "#phases" not in costs_page


def test_step_control_has_a_row_per_edit_and_outcome_and_a_map_per_outcome(page: str, run: ReportData) -> None:
    section = page[page.index('<section id="steps">') :].split("</section>")[0]
    assert section.count("<tr>") == 1 + 3 * 2 * 3 and section.count("<svg role=") == 3
    assert "OPERATE: 9, 12, 88, 140; FORMAT: 301" in section, "latents stand with those of their type"
    assert run.step_control is not None
    standing = sum(row["stands_out"] for row in run.step_control["rows"])
    assert section.count("<td>yes</td>") == standing > 0


def test_the_transfer_map_has_a_panel_per_model_and_a_dash_where_it_is_undefined(page: str, run: ReportData) -> None:
    section, cells = page[page.index('<section id="map">') :].split("</section>")[0].split("<details>")
    assert "within the model" in section and "from phase4_gpt2-medium" in section
    undefined = sum(row["transfer"] is None for row in run.transfer_map)
    assert section.count(">–<") == undefined > 0 and cells.count("<tr>") == 1 + len(run.transfer_map)


def test_the_same_run_gives_the_same_bytes(run_folder: Path, page: str) -> None:
    written = write(run_folder)
    assert written.name == "report.html" and written.read_text(encoding="utf-8") == page
    assert not list(run_folder.glob(".*.tmp"))


def test_hostile_text_stays_text(run: ReportData) -> None:
    verdict = json.loads(json.dumps(run.verdict))
    verdict["criteria"]["alignment"] |= {"reason": HOSTILE, "unit": HOSTILE}
    verdict["remarks"] = [HOSTILE]
    latent = {
        "latent": 1,
        "label": HOSTILE,
        "f1": 0.5,
        "contexts": [{"tokens": [HOSTILE, " b"], "activations": [1.0, 0.0], "record_id": HOSTILE}],
    }
    unit = (run.causal or {})["units"][0] | {"variable": HOSTILE, "value": HOSTILE}
    experiment = run.experiment | {"name": HOSTILE}
    hostile = replace(
        run,
        verdict=verdict,
        contexts=[latent],
        causal={"units": [unit]},
        experiment=experiment,
        histories={(HOSTILE, "0"): run.histories["main", "0"]},
    )
    elements = Elements(render(hostile))
    assert not {"script", "img"} & {tag for tag, _ in elements.tags}
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    assert "".join(elements.words).count("alert(1)") >= 5


def test_missing_parts_are_said_to_be_missing(run: ReportData) -> None:
    bare = render(_bare(run))
    for sentence in (
        "No sweep was run",
        "No interchange was run",
        "No contexts were kept",
        "No training history",
        "No protocol file",
        "No resource ledger",
    ):
        assert sentence in bare
    for name in CRITERIA:
        assert _row(bare, name)


def test_a_criterion_without_a_value_shows_a_dash_and_the_reason(run: ReportData) -> None:
    verdict, metrics = json.loads(json.dumps(run.verdict)), json.loads(json.dumps(run.metrics))
    verdict["criteria"]["alignment"] |= {
        "outcome": "INCONCLUSIVE",
        "reason_code": "NOT_RUN",
        "value": None,
        "interval": None,
        "nulls": {},
    }
    metrics["alignment"] |= {"value": None, "interval": None, "not_run": "the corpus has no labelled steps"}
    row = _row(render(replace(_bare(run), verdict=verdict, metrics=metrics)), "alignment")
    assert ">–<" in row and "the corpus has no labelled steps" in row and "NOT_RUN" in row


def test_no_nan_reaches_the_page(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "broken")
    verdict = json.loads((folder / "verdict.json").read_text())
    verdict["criteria"]["fidelity"] |= {"value": float("nan"), "interval": [float("nan"), float("inf")]}
    verdict["criteria"]["alignment"]["nulls"]["random_model"]["mean"] = float("nan")
    (folder / "verdict.json").write_text(json.dumps(verdict))
    history = {"step": [0, 1, 2], "fvu": [1.0, float("nan"), 0.5], "l0": [], "dead_fraction": [float("inf")] * 3}
    (folder / "sae" / "main" / "0" / "history.json").write_text(json.dumps(history))
    assert not re.search(r"\b(nan|inf|infinity)\b", write(folder).read_text(encoding="utf-8"), re.I)


def test_a_folder_without_a_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="verdict.json"):
        collect(tmp_path)
    (tmp_path / "verdict.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        collect(tmp_path)


def test_a_protocol_changed_after_sealing_gets_no_report(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "changed")
    path = folder / "protocol.json"
    path.write_text(path.read_text().replace('"threshold": 0.95', '"threshold": 0.90', 1))
    with pytest.raises(Refused):
        write(folder)
    assert not (folder / "report.html").exists()


def test_words_of_a_word_level_tokenizer_keep_their_spaces() -> None:
    html = context_html({"tokens": ["add", "4", "gives"], "activations": [0, 2.0, 0]}, peak=2.0)
    assert "".join(Elements(html).words) == "add 4 gives"
    assert html.count('class="on"') == 1 and 'title="activation 2.00"' in html


def test_byte_level_markers_become_the_characters_they_stand_for() -> None:
    html = context_html({"tokens": ["Ġsold", "Ċ", " 4"], "activations": [0, 0, 0]}, peak=0.0)
    assert "".join(Elements(html).words) == " sold↵\n 4"


def _bare(run: ReportData) -> ReportData:
    return ReportData(folder="runs/x", experiment={"name": "x"}, verdict=run.verdict, protocol={})


def _row(page: str, name: str) -> str:
    found = re.search(rf'<tr role="row" data-criterion="{name}".*?</tr>', page, re.S)
    assert found is not None
    return found[0]
