"""report.html of a curation: what went where, and why, with examples to look at."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from curation.decide import funnel
from curation.ledger import Row, replacing
from curation.output import Output
from curation.preset import Preset, Rule
from curation.rule_columns import MODEL, scales
from curation.verdict import Verdict

EXAMPLES = 6
"""Dropped clips shown a rule."""

MOST = 120
"""Cards shown of one section: the page stays under about 10 MB."""

BINS = 40


def write_curation_report(
    rows: Sequence[Row], verdict: Verdict, preset: Preset, out: Output, path: Path
) -> None:
    """Write the page; pictures are inside it, kept clips play from `out`'s folder beside it."""
    clips = [row for row in rows if row.frames is not None]
    kept = [row for row in clips if row.decision == "keep"]
    page = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    text = page.substitute(
        preset=escape(preset.name),
        about=f"{len(clips)} clips, {_hours(clips):.3f} h; {len(kept)} kept, {_hours(kept):.3f} h",
        funnel=_funnel(verdict, clips, kept),
        scores="".join(_scores(clips, preset)),
        rules="".join(_dropped(clips, out)) or "<p>Nothing was dropped.</p>",
        crops="".join(_card(row, out, str(row.crop)) for row in kept if row.crop) or "None.",
        duplicates="".join(_clusters(clips, out)) or "<p>None.</p>",
        balance=_balance(verdict),
        shown=f"{min(len(kept), MOST)} of {len(kept)}",
        kept="".join(_card(row, out, row.caption_t2v or "", play=True) for row in _some(kept)),
        errors="".join(_errors(rows)) or "<tr><td>None.</td></tr>",
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _hours(rows: Iterable[Row]) -> float:
    return sum((row.end or 0) - (row.start or 0) for row in rows) / 3600


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    """At most `MOST` rows, evenly chosen."""
    return rows[:: max(1, -(-len(rows) // MOST))]


def _funnel(verdict: Verdict, clips: Sequence[Row], kept: Sequence[Row]) -> str:
    lines = [("all clips", "", "", len(clips), _hours(clips))]
    lines += [
        (rule.rule, rule.threshold, f"{rule.alone:,}", rule.total, rule.hours)
        for rule in funnel(verdict.rules)
    ]
    lines += [(step.name, "", "", step.clips, step.hours) for step in verdict.steps]
    lines.append(("kept", "", "", len(kept), _hours(kept)))
    return "".join(
        f"<tr><td>{escape(name)}<td>{escape(keeps)}<td>{alone}<td>{clips:,}<td>{hours:,.3f}</tr>"
        for name, keeps, alone, clips, hours in lines
    )


# --- scores -------------------------------------------------------------------------------------


def _scores(clips: Sequence[Row], preset: Preset) -> Iterable[str]:
    """A histogram for every number that clips have, beginning with those that have a rule."""
    rules = {rule.column: rule for rule in preset.rules}
    scored = sorted({MODEL + one.name for row in clips for one in row.model_scores})
    numbers = [*scales(), *scored]
    for name in [*(n for n in rules if n in numbers), *(n for n in numbers if n not in rules)]:
        values = [(_value(row, name), row.decision == "keep") for row in clips]
        known = [(v, k) for v, k in values if v is not None and np.isfinite(v)]
        if known:
            yield _histogram(name, known, rules.get(name), len(values) - len(known))


def _value(row: Row, name: str) -> float | None:
    """A number of a row, or one that rules derive from it."""
    width, height = row.width or 0, row.height or 0
    derived: dict[str, float | None] = {
        "duration": (row.end or 0) - (row.start or 0),
        "short_side": min(width, height),
        "aspect_ratio": width / height if height else None,
        "megapixels": width * height / 1e6,
    }
    derived |= {MODEL + score.name: score.value for score in row.model_scores}
    value = derived[name] if name in derived else getattr(row, name, None)
    return float(value) if isinstance(value, int | float) else None


def _histogram(
    name: str, known: Sequence[tuple[float, bool]], rule: Rule | None, missing: int
) -> str:
    numbers, keep = np.array([v for v, _ in known]), np.array([k for _, k in known])
    bounds = [b for b in (rule.minimum, rule.maximum) if b is not None] if rule else []
    low, high = min([numbers.min(), *bounds]), max([numbers.max(), *bounds])
    span = high - low or 1.0
    place = np.clip(((numbers - low) / span * BINS).astype(int), 0, BINS - 1)
    counts = np.array([np.bincount(place[keep == k], minlength=BINS) for k in (True, False)])
    top = counts.sum(axis=0).max()
    bars = []
    for i, (kept, dropped) in enumerate(counts.T.tolist()):
        a, b = 70 * kept / top, 70 * dropped / top
        bars.append(f"<rect x={i * 5} y={70 - a:.1f} width=4.4 height={a:.1f} fill=#1f6f8b />")
        bars.append(f"<rect x={i * 5} y={70 - a - b:.1f} width=4.4 height={b:.1f} fill=#c77d2e />")
    for bound in bounds:
        x = (bound - low) / span * BINS * 5
        bars.append(f"<line x1={x:.1f} x2={x:.1f} y1=0 y2=70 stroke=#e33 stroke-width=1.5 />")
    ends = f"<text x=0 y=84>{low:.4g}</text><text x=200 y=84 text-anchor=end>{high:.4g}</text>"
    without = f", {missing} without" if missing else ""
    return (
        f"<div class=plot><b>{escape(name)}</b> <small>{len(known)} clips{without}</small>"
        f"<svg viewBox='0 0 200 88' preserveAspectRatio=none font-size=9 fill=currentColor>"
        f"{''.join(bars)}{ends}</svg></div>"
    )


# --- clips --------------------------------------------------------------------------------------


def _dropped(clips: Sequence[Row], out: Output) -> Iterable[str]:
    """Examples of what each rule or step dropped."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in clips:
        if row.decision == "drop" and row.stage != "dedupe":
            rule = (row.reason or "").split(" ")[0]
            groups[rule if row.stage == "decide" else str(row.stage)].append(row)
    for name, rows in sorted(groups.items(), key=lambda group: -len(group[1])):
        cards = "".join(_card(row, out, row.reason or "") for row in rows[:EXAMPLES])
        yield f"<h3>{escape(name)}: {len(rows)}</h3><div class=grid>{cards}</div>"


def _clusters(clips: Sequence[Row], out: Output) -> Iterable[str]:
    """Each kept clip that has near-duplicates, and these after it."""
    by_id = {row.clip_id: row for row in clips}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in clips:
        if row.duplicate_of in by_id and row.duplicate_of != row.clip_id:
            groups[str(row.duplicate_of)].append(row)
    for head, rows in list(groups.items())[: MOST // 4]:
        cards = "".join(_card(row, out, row.reason or "kept") for row in [by_id[head], *rows])
        yield f"<div class=grid>{cards}</div>"


def _card(row: Row, out: Output, text: str, play: bool = False) -> str:
    picture = _strip(row, out)
    if play and row.clip:
        poster = f" poster='{picture}'" if picture else ""
        shown = f"<video controls preload=none src='{escape(row.clip)}'{poster}></video>"
    else:
        shown = f"<img alt='' loading=lazy src='{picture}'>{_rectangles(row)}" if picture else ""
    where = f"{row.source}, {row.start or 0:.2f} to {row.end or 0:.2f} s"
    return (
        f"<div class=card><div class=frame>{shown}</div>"
        f"<p>{escape(text)}</p><p class=about>{escape(where)}</p></div>"
    )


def _strip(row: Row, out: Output) -> str:
    path = out.preview(row.clip_id)
    if not path.is_file():
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def _rectangles(row: Row) -> str:
    """The crop, drawn in each frame of the preview: two by two, or side by side if upright."""
    if not row.crop or not row.width or not row.height:
        return ""
    x, y, w, h = row.crop
    across, down = (2, 2) if row.width > row.height else (min(4, row.frames or 1), 1)
    boxes = []
    for i in range(across * down):
        left = (i % across + x / row.width) / across
        top = (i // across + y / row.height) / down
        size = f"width:{w / row.width / across:.2%};height:{h / row.height / down:.2%}"
        boxes.append(f"<i style='left:{left:.2%};top:{top:.2%};{size}'></i>")
    return "".join(boxes)


def _balance(verdict: Verdict) -> str:
    if verdict.balance is None:
        return "<p>The preset balances nothing.</p>"
    head = "<tr><th>concept<th><th>before<th>share<th>after<th>share<th>target</tr>"
    lines = "".join(
        f"<tr><td>{escape(name)}<td><td>{before:,}<td>{share:.1%}<td>{after:,.0f}"
        f"<td>{share_after:.1%}<td>{target:.1%}</tr>"
        for name, before, share, after, share_after, target in verdict.balance.table()
    )
    return f"<table>{head}{lines}</table>"


def _errors(rows: Sequence[Row]) -> Iterable[str]:
    for row in rows:
        if row.decision == "error":
            yield (
                f"<tr><td>{escape(row.source)}<td>{escape(row.reason or '')}"
                f"<td class=error>{escape(row.error or '')}</tr>"
            )
