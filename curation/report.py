"""report.html: a page of its own with the shots, their captions, and what saw each field."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from captioner.schema import SHOT_FIELDS, Subject
from curation.ledger import Row, replacing

MAX_SHOTS = 400
"""Shots shown at most, evenly chosen: the page stays under about 10 MB."""

MAX_BARS = 10


def write_report(rows: Sequence[Row], preview: Callable[[str], Path], path: Path) -> None:
    """Write the page; `preview` gives the path of a clip's strip of frames, by clip_id."""
    shots = [row for row in rows if row.frames is not None]
    shown = shots[:: max(1, -(-len(shots) // MAX_SHOTS))]
    page = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    text = page.substitute(
        title="skycaptioner report",
        about=_about(rows, shots),
        errors=_errors(rows),
        plots="".join(_plots(shots)),
        shown=f"{len(shown)} of {len(shots)} shots, in order of file and time.",
        shots="".join(_shot(row, preview(row.clip_id)) for row in shown),
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _about(rows: Sequence[Row], shots: Sequence[Row]) -> str:
    files = len({row.source_sha256 or row.source for row in rows})
    seconds = sum((row.end or 0) - (row.start or 0) for row in shots)
    engines = ", ".join(sorted({row.caption_engine for row in shots if row.caption_engine}))
    return f"{files} files, {len(shots)} shots, {seconds:.0f} s of video, engine {escape(engines)}"


def _errors(rows: Sequence[Row]) -> str:
    wrong = [row for row in rows if row.error or row.warning]
    if not wrong:
        return ""
    lines = "".join(
        f"<tr><td>{escape(row.source)}</td>"
        f"<td class=error>{escape(row.error or row.warning or '')}</td><td>{row.decision}</td></tr>"
        for row in _one_a_source(wrong)
    )
    return f"<h2>Errors and warnings</h2><table>{lines}</table>"


def _one_a_source(rows: Iterable[Row]) -> list[Row]:
    return list({(row.source, row.error, row.warning): row for row in rows}.values())


# --- distributions ------------------------------------------------------------------------------


def _plots(shots: Sequence[Row]) -> Iterable[str]:
    captions = [row.caption for row in shots if row.caption]
    for field in ("shot_type", "shot_angle", "shot_position", "camera_motion", "lighting"):
        yield _plot(field, [str(getattr(caption, field)) for caption in captions])
    main = [caption.main_subject for caption in captions]
    yield _plot("main subject", [_kind(subject) if subject else "" for subject in main])
    yield _plot("expression", [s.expression if s else "" for s in main])
    seconds = [(row.end or 0) - (row.start or 0) for row in shots]
    yield _plot("length", [_length(s) for s in seconds], order=[label for _, label in _LENGTHS])
    yield _plot("transition", [row.transition_in or "" for row in shots])
    yield _plot("picture size", [f"{row.width}x{row.height}" for row in shots])


_LENGTHS: tuple[tuple[float, str], ...] = (
    (1, "under 1 s"),
    (2, "1 to 2 s"),
    (4, "2 to 4 s"),
    (8, "4 to 8 s"),
    (16, "8 to 16 s"),
    (float("inf"), "over 16 s"),
)


def _length(seconds: float) -> str:
    return next(label for limit, label in _LENGTHS if seconds < limit)


def _kind(subject: Subject) -> str:
    return " / ".join(filter(None, [subject.types.type, subject.types.sub_type]))


def _plot(title: str, values: Sequence[str], order: Sequence[str] = ()) -> str:
    counts = Counter(value for value in values if value)
    most = [(label, counts[label]) for label in order] or counts.most_common(MAX_BARS)
    top = max(counts.values(), default=1)
    bars = [_bar(label, n, top, f"data-find='{escape(label)}'") for label, n in most]
    rest = len(counts) - len(most)
    if rest > 0:
        bars.append(f"<small class=empty>and {rest} more</small>")
    if empty := len(values) - sum(counts.values()):
        bars.append(f"<div class=empty>{_bar('left empty', empty, max(top, empty))}</div>")
    filled = f"{sum(counts.values())} of {len(values)}"
    return f"<div class=plot><h3>{title} <small>{filled}</small></h3>{''.join(bars)}</div>"


def _bar(label: str, count: int, top: int, button: str = "") -> str:
    tag = f"button {button}" if button else "div"
    width = 100 * count / top
    return (
        f"<{tag} class=bar title='{escape(label)}'><span>{escape(label)}</span>"
        f"<i style='width:{width:.1f}%'></i><b>{count}</b></{tag.split()[0]}>"
    )


# --- shots --------------------------------------------------------------------------------------


def _shot(row: Row, preview: Path) -> str:
    bounds = f"{row.start or 0:.2f} to {row.end or 0:.2f} s, {row.frames} frames"
    picture = ""
    if preview.is_file():
        data = base64.b64encode(preview.read_bytes()).decode()
        picture = f"<img loading=lazy alt='frames of the shot' src='data:image/jpeg;base64,{data}'>"
    fields = "".join(_field(name, value, seen) for name, value, seen in _fields(row))
    error = f"<p class=error>{escape(row.error)}</p>" if row.error else ""
    return (
        f"<article class=shot id='{row.clip_id}'>{picture}<div>"
        f"<h3>{escape(row.source)} <small>{bounds}</small></h3>"
        f"<p>{escape(row.caption_t2v or '')}</p>{error}"
        f"<table>{_HEAD}{fields}</table></div></article>"
    )


_HEAD = "<tr><td>field</td><td></td><td>seen by, confidence</td></tr>"


def _fields(row: Row) -> Iterable[tuple[str, str, str]]:
    """Name, value and what saw it, of each field of the caption."""
    caption = row.caption
    if caption is None:
        return
    sources = row.model_dump(include={"caption_sources"})["caption_sources"] or {}
    for name in SHOT_FIELDS:
        yield name, str(getattr(caption, name)), _seen(sources.get(name))
    main = caption.main_subject
    for subject in caption.subjects:
        label = "main subject" if subject is main else "subject"
        said = [_kind(subject), subject.appearance, subject.action, subject.position]
        words = ". ".join(part.rstrip(".") for part in said if part)
        yield label, words, _seen(sources.get("TYPES_type"))
        if subject.expression:
            yield "expression", subject.expression, _seen(sources.get("expression"))
    if row.text_lines:
        yield "text on screen", " | ".join(row.text_lines), ""


def _seen(source: dict[str, object] | None) -> str:
    if not source:
        return ""
    confidence = source.get("confidence")
    sure = f" {confidence:.2f}" if isinstance(confidence, float) else ""
    name = str(source["source"]).removeprefix("experts.")
    return f"{name}{sure}"


def _field(name: str, value: str, seen: str) -> str:
    empty = "" if value else " class=empty"
    shown = escape(value) or "not seen"
    return f"<tr{empty}><td>{name}</td><td>{shown}</td><td>{escape(seen)}</td></tr>"
