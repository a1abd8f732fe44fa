"""Numbers and names as a person reads them. A missing or non-finite number is an en dash, never `nan`."""

import json
import math
from datetime import UTC, datetime
from typing import Any

DASH = "–"
MINUS = "−"

FVU_GUARD = "FVU is a fidelity gate, never evidence of interpretability."

REASONS = {
    "UNDERPOWERED": "the interval lies on both sides of the threshold: too few units to tell",
    "GATE_FAILED": "a condition for the number to mean anything was not met",
    "VOID": "a null control, where there is nothing to find, passes as well",
    "NOT_RUN": "there is no number",
}

ARCHITECTURES = {
    "batch_topk": "BatchTopK",
    "relu": "ReLU + L1",
    "topk": "TopK",
    "jumprelu": "JumpReLU",
    "gated": "Gated",
}


def finite(value: Any) -> float | None:
    """The number, or None for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number(value: Any, decimals: int | None = None) -> str:
    """Three significant digits, more where 1 - x would vanish; thousands separated."""
    x = finite(value)
    if x is None:
        return DASH
    if decimals is None:
        decimals = _decimals(x)
    if x != 0 and abs(x) < 1e-4 and decimals > 5:
        mantissa, exponent = f"{x:.2e}".split("e")
        return f"{mantissa.replace('-', MINUS)} × 10{_superscript(int(exponent))}"
    text = f"{x:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def measured(value: Any, interval: Any) -> tuple[str, str]:
    """A value and its interval with the digits that the width of the interval can bear."""
    bounds = [finite(bound) for bound in interval] if interval else [None, None]
    low, high = bounds if len(bounds) == 2 else (None, None)
    if low is None or high is None:
        return number(value), ""
    width = high - low
    decimals = _decimals(finite(value) or high) if width <= 0 else min(max(1 - math.floor(math.log10(width)), 0), 6)
    return number(value, decimals), f"[{number(low, decimals)}, {number(high, decimals)}]"


def count(value: Any) -> str:
    x = finite(value)
    return DASH if x is None else f"{round(x):,}"


def duration(seconds: Any) -> str:
    """`0.42 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`."""
    x = finite(seconds)
    if x is None:
        return DASH
    if x < 60:
        return f"{x:.2f} s" if x < 1 else f"{x:.1f} s"
    whole = round(x)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(stamp: Any) -> str:
    """An ISO date as `2026-11-26 18:06:31 UTC`; a dash for none."""
    if not stamp:
        return DASH
    return f"{datetime.fromisoformat(str(stamp)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def byte_size(value: Any) -> str:
    """Decimal units."""
    x = finite(value)
    if x is None:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if x < 1000:
            return f"{x:.0f} {unit}" if unit == "B" else f"{x:.3g} {unit}"
        x /= 1000
    return f"{x:.3g} TB"


def comparison(direction: Any, threshold: Any) -> str:
    """`≥ 0.95`."""
    x = finite(threshold)
    return f"{'≥' if direction == '>=' else '≤'} {DASH if x is None else f'{x:g}'}"


def spaced(name: Any) -> str:
    """`random_model` as words."""
    return str(name).replace("_", " ")


def plural(amount: int, noun: str) -> str:
    several = f"{noun}es" if noun.endswith(("ch", "sh", "s", "x")) else f"{noun}s"
    return f"{count(amount)} {noun if amount == 1 else several}"


def listed(value: Any) -> str:
    """Counts by name, or a list, as `2 x no answer, 1 x no steps`; `none` where it is empty."""
    if isinstance(value, dict):
        return ", ".join(f"{plain(count)} x {spaced(name)}" for name, count in value.items()) or "none"
    return "none" if value == [] else plain(value)


def plain(value: Any) -> str:
    """Any JSON value on one line."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value) if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return number(value) if abs(value) < 1e-3 or value != round(value, 4) else f"{value:g}"
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(plain(item) for item in value) or DASH
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _decimals(x: float) -> int:
    if x == 0:
        return 0
    size = abs(x)
    if 0.999 < size < 1:
        return min(1 - math.floor(math.log10(1 - size)), 6)
    if size >= 1000 or (size >= 10 and size == round(size)):
        return 0
    return max(2 - math.floor(math.log10(size)), 0)


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
