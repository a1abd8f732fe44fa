"""The drawings: one size, ids of their own, nothing drawn from a missing number."""

import re
from xml.etree import ElementTree

from raysae.report import ReportData, figures
from raysae.report import attribution as pushed

from .fixture import attribution, causal, history, hook_sweep, sweep
from .judged import metrics, verdict

CRITERIA = verdict(metrics(), "0" * 64).model_dump(mode="json")["criteria"]


def test_ids_are_unique_on_the_page(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_every_drawing_has_a_text_alternative_and_the_width_of_a_panel(page: str) -> None:
    drawings = re.findall(r'<svg role="img"[^>]*>', page)
    assert len(drawings) == 3 + 1 + 5 + 3 + 6 + 1 + 2 + 3
    for drawing in drawings:
        assert re.search(r'aria-label="[^"]{20,}"', drawing)
        assert f'width="{figures.WIDTH}"' in drawing


def test_a_panel_per_criterion_with_a_value() -> None:
    without = CRITERIA | {"alignment": CRITERIA["alignment"] | {"value": None, "interval": None}}
    figure = figures.criterion_intervals(without)
    assert figure is not None
    assert [panel.title for panel in figure.panels] == ["reconstruction", "sparsity", "fidelity", "causal interchange"]
    assert figures.criterion_intervals({}) is None


def test_a_null_far_away_does_not_flatten_the_measurement() -> None:
    rows = [
        {"row": "measured", "mean": 0.04, "low": 0.039, "high": 0.041},
        {"row": "null", "mean": 900.0, "low": 900.0, "high": 901.0},
    ]
    low, high = figures._domain(rows, 0.1)
    assert low < 0.039 and 0.1 < high < 1


def test_the_training_panels_skip_what_was_not_measured() -> None:
    curve = history("main", 0)
    figure = figures.training_curves({("main", "0"): curve | {"dead_fraction": [None] * len(curve["step"])}})
    assert figure is not None
    assert [panel.title for panel in figure.panels] == ["FVU", "L0, active latents per token"]
    assert figures.training_curves({}) is None
    assert figures.training_curves({("main", "0"): {}}) is None


def test_a_curve_that_reaches_zero_is_drawn_without_a_log_scale() -> None:
    figure = figures.training_curves({("main", "0"): {"step": [0, 1], "fvu": [1.0, 0.0]}})
    assert figure is not None and figure.panels[0].note == ""


def test_the_sweep_says_which_trial_was_chosen() -> None:
    figure = figures.sweep_plane(sweep(), 0.1, 6.4)
    assert figure is not None
    assert "Chosen: L0 8.02" in figure.panels[0].svg
    assert "Pareto front" not in [text for _, text in figure.legend]
    assert figures.sweep_plane({"trials": [{"l0": None, "fvu": 0.1}]}, None, None) is None


def test_the_front_and_what_was_stopped_are_marked_and_no_line_joins_what_a_search_drew() -> None:
    drawn = sweep() | {"search": "tpe"}
    for number, trial in enumerate(drawn["trials"]):
        trial |= {"pareto": number in (1, 4), "stopped": number == 0}
    figure = figures.sweep_plane(drawn, 0.1, 6.4)
    assert figure is not None
    assert {"Pareto front", "stopped early"} <= {text for _, text in figure.legend}
    assert 'stroke-width="1.4"' not in figure.panels[0].svg
    joined = figures.sweep_plane(sweep(), 0.1, 6.4)
    assert joined is not None and 'stroke-width="1.4"' in joined.panels[0].svg


def test_a_panel_per_variable_without_nulls_that_were_not_run() -> None:
    units = [unit | {"random_model": None, "permuted_labels": None} for unit in causal()["units"]]
    figure = figures.causal_effect(units)
    assert figure is not None
    assert [panel.title for panel in figure.panels] == ["total", "operation", "step type"]
    assert "random model" not in [text for _, text in figure.legend]
    assert figures.causal_effect([unit | {"latents": None} for unit in units]) is None


def test_a_panel_per_strong_latent_says_what_it_drives_and_whether_it_passes() -> None:
    figure = pushed.dose_response(attribution())
    assert figure is not None and len(figure.panels) == pushed.PANELS
    assert [panel.title for panel in figure.panels][:2] == ["latent 17", "latent 34"]
    assert figure.panels[0].note == "step type; passes"
    assert figure.panels[5].note == "total; fails: not beyond random directions, not beyond other rows"
    assert pushed.dose_response({}) is None
    gap = attribution()
    gap["latents"][0]["curve"][0] = None
    assert pushed.dose_response(gap) is not None


def test_the_hook_map_has_every_cell_and_frames_the_choice() -> None:
    figure = pushed.hook_map(hook_sweep())
    assert figure is not None
    assert "12 hook points, band 2.31. Chosen on FIT: layer 0 resid post, 9.3" in figure.panels[0].svg
    frame = re.findall(r'd="M[^"]*h([\d.]+)v44h[^"]*" stroke="#1d232b"', figure.panels[0].svg)
    assert len(frame) == 1 and float(frame[0]) > 60, "round the whole cell, clear of its number and its triangle"
    assert pushed.hook_map([]) is None
    assert pushed.hook_map([hook_sweep()[0] | {"statistic": None}]) is None


def test_the_drawings_are_well_formed(run: ReportData) -> None:
    figure = figures.training_curves(run.histories)
    assert figure is not None
    for panel in figure.panels:
        ElementTree.fromstring(panel.svg)
