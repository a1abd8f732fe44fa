"""The page in a browser: no request leaves it, nothing is wider than the window, no two labels of a figure overlap."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")

TOO_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll') || e.matches('.verdict *'))
  .map(e => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => r.width && (r.right > innerWidth + 0.5 || r.left < -0.5))
  .map(([e, r]) => e.tagName + ' ' + e.textContent.slice(0, 40))"""
"""Elements that stick out of the window; a table may, inside its scroll box, but not the verdict."""

LABELS_THAT_MEET = """() => [...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll('text')]
    .map(t => [t.textContent, t.getBoundingClientRect()])
    .filter(([t, r]) => r.width);
  const out = r => r.left < frame.left - 1 || r.right > frame.right + 1 || r.bottom > frame.bottom + 1;
  const cut = boxes.filter(([t, r]) => out(r));
  const over = (p, q) => p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2;
  const meet = boxes.flatMap(([a, p], i) =>
    boxes.slice(i + 1).filter(([b, q]) => over(p, q)).map(([b]) => a + ' / ' + b));
  return [...cut.map(([t]) => 'cut: ' + t), ...meet]; })"""
"""Labels of a figure that overlap each other or leave their drawing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("which", ["page", "costs_page"])
@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_fits_the_window_and_asks_for_nothing(
    browser: Any, which: str, request: pytest.FixtureRequest, tmp_path: Path, width: int
) -> None:
    (tmp_path / "report.html").write_text(request.getfixturevalue(which), encoding="utf-8")
    address = (tmp_path / "report.html").as_uri()
    tab = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    problems: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text))
    tab.goto(address)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(TOO_WIDE) == []
    assert tab.evaluate(LABELS_THAT_MEET) == []
    assert asked == [address] and problems == []
    tab.evaluate("document.querySelectorAll('svg[role=img] text').forEach(t => t.setAttribute('transform', ''))")
    assert tab.evaluate(LABELS_THAT_MEET) != [], "the check must see labels that do overlap"
    tab.close()
