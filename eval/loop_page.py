"""loop.html of a round: the figures, and prompts with their real and generated clips side by side.

The page is static, loads nothing from anywhere but the folder that it is in, and shows what models
and data say as text alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from captioner.schema import FIELDS
from curation.layouts.clips import FileMedia, Media
from curation.ledger import replacing
from eval.loop import MEASURES, Changed, FieldLine, Loop, MeasureLine, Scored

SHOWN = 12
"""Generations shown of a concept, the worst first."""

REAL, GENERATED = "videos/real", "videos/generated"
"""Where the videos of the page and of the pairs are, beside it."""


def shown(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    """The generations that the page shows, by concept: those with the lowest adherence first."""
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[one.concept].append(one)

    def rank(one: Scored) -> tuple[float, str]:
        missed = one.caption is None
        adherence = one.adherence if one.adherence is not None else 1.0
        return -1.0 if missed else adherence, one.generation.generation_id

    return {name: sorted(group, key=rank)[:SHOWN] for name, group in sorted(groups.items())}


# --- the videos -----------------------------------------------------------------------------------


def place_videos(videos: Mapping[str, Media], folder: str, out: Path) -> tuple[dict[str, str], str]:
    """Put videos by id into a folder of `out`; their paths there, and what could not be put.

    What else is in the folder goes. Raises OSError when `out` cannot be written.
    """
    there = out / folder
    there.mkdir(parents=True, exist_ok=True)
    placed: dict[str, str] = {}
    missing = []
    for name, media in sorted(videos.items()):
        path = there / f"{_file_name(name)}.mp4"
        try:
            media.size  # noqa: B018 - raises OSError for a file that is not there
            if not media.is_at(path):
                path.unlink(missing_ok=True)
                media.place(path)
        except OSError as error:
            missing.append(f"{name} ({error.strerror or error})")
            continue
        placed[name] = f"{folder}/{path.name}"
    for path in there.glob("*.mp4"):
        if f"{folder}/{path.name}" not in placed.values():
            path.unlink()
    return placed, ", ".join(missing)


def generated_media(scored: Iterable[Scored], folder: Path) -> dict[str, Media]:
    """The videos of generations, by id; `folder` is that of their ledger."""
    return {
        one.generation.generation_id: FileMedia(folder / one.generation.video)
        for one in scored
        if one.generation.video is not None
    }


def _file_name(name: str) -> str:
    """The name itself where it is a plain one, else its hash."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]


# --- the page -------------------------------------------------------------------------------------


def write_page(loop: Loop, reals: Mapping[str, str], videos: Mapping[str, str], path: Path) -> None:
    """Write the page; `reals` and `videos` are paths beside it, by clip_id and generation_id.

    Raises OSError.
    """
    groups = shown(loop.scored)
    failed = sum(one.caption is None for one in loop.scored)
    template = Template(Path(__file__).with_name("loop.html").read_text("utf-8"))
    text = template.substitute(
        title=f"Round {loop.weights.round}: prompts and what came out",
        about=escape(
            f"{len(loop.scored)} generations of {len(loop.concepts)} concepts by "
            f"{' and '.join(loop.weights.by)}; {failed} came to no caption"
        ),
        links=_links(groups),
        judge=escape(loop.judge),
        concepts=_concepts(loop),
        fields=_fields(loop.fields),
        measures=_measures(loop.measures),
        changed=_changed(loop.changed),
        clips="".join(
            _group(i, name, loop, groups, reals, videos) for i, name in enumerate(groups)
        ),
        problems=_problems(loop.problems),
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def _links(groups: Mapping[str, Sequence[Scored]]) -> str:
    names = [("fields", "fields"), ("measures", "the picture"), ("problems", "problems")]
    names += [(f"c{i}", name) for i, name in enumerate(groups)]
    return "".join(f"<a href='#{anchor}'>{escape(name)}</a>" for anchor, name in names)


def _head(*names: str) -> str:
    return f"<tr>{''.join(f'<th>{name}' for name in names)}</tr>"


def _interval(value: float | None, low: float, high: float) -> str:
    return "-" if value is None else f"{value:.3f} <small>{low:.3f} to {high:.3f}</small>"


def _concepts(loop: Loop) -> str:
    head = _head("concept", "missed", "generations", "failed", "with cuts", "real clips", "factor")
    return head + "".join(
        f"<tr{' class=up' if one.factor > 1 else ''}><td>{escape(one.concept)}"
        f"<td>{_interval(one.missed, one.low, one.high)}<td>{one.generations}<td>{one.failed}"
        f"<td>{one.cut}<td>{one.real}<td>{one.factor:.3f}</tr>"
        for one in sorted(loop.concepts, key=lambda one: (-(one.missed or 0), one.concept))
    )


def _fields(lines: Sequence[FieldLine]) -> str:
    by_concept: dict[str, dict[str, FieldLine]] = defaultdict(dict)
    for one in lines:
        by_concept[one.concept][one.field] = one
    names = [name for name in FIELDS if any(name in of for of in by_concept.values())]

    def cell(of: Mapping[str, FieldLine], name: str) -> str:
        if name not in of:
            return "<td>-"
        one = of[name]
        return f"<td>{one.accuracy:.2f} <small>{one.low:.2f} to {one.high:.2f}, {one.asked}</small>"

    return _head("concept", *names) + "".join(
        f"<tr><td>{escape(concept or 'all')}{''.join(cell(of, name) for name in names)}</tr>"
        for concept, of in by_concept.items()
    )


def _measures(lines: Sequence[MeasureLine]) -> str:
    by_concept: dict[str, dict[str, MeasureLine]] = defaultdict(dict)
    for one in lines:
        by_concept[one.concept][one.measure] = one

    def cell(one: MeasureLine) -> str:
        made, real = (
            "-" if v is None else f"{v:.3g}" for v in (one.generated_median, one.real_median)
        )
        text = f"{made} <small>real {real}</small>"
        sure = one.low is not None and one.high is not None and (one.low > 0 or one.high < 0)
        return f"<td><b>{text}</b>" if sure else f"<td>{text}"

    return _head("concept", *MEASURES) + "".join(
        f"<tr><td>{escape(concept)}{''.join(cell(of[name]) for name in MEASURES)}</tr>"
        for concept, of in by_concept.items()
    )


def _changed(lines: Sequence[Changed]) -> str:
    if not lines:
        return ""
    head = _head("concept", "prompts", "field", "before", "now", "difference")
    rows = "".join(
        f"<tr{' class=up' if one.significant else ''}><td>{escape(line.concept or 'all')}"
        f"<td>{line.prompts}<td>{one.field}<td>{one.first:.3f}<td>{one.second:.3f}"
        f"<td>{one.value:+.3f} <small>{one.low:+.3f} to {one.high:+.3f}</small></tr>"
        for line in lines
        for one in line.differences
    )
    return (
        "<h2 id='changed'>Since the round before</h2><p class=about>On the prompts of both rounds; "
        "in bold where the 95 % interval leaves 0 out.</p>"
        f"<div class=scroll><table class=figures>{head}{rows}</table></div>"
    )


def _group(
    number: int,
    name: str,
    loop: Loop,
    groups: Mapping[str, Sequence[Scored]],
    reals: Mapping[str, str],
    videos: Mapping[str, str],
) -> str:
    total = sum(one.concept == name for one in loop.scored)
    cards = "".join(_card(one, reals, videos) for one in groups[name])
    return (
        f"<h2 id='c{number}'>{escape(name)} <small>{len(groups[name])} of {total}, the worst first"
        f"</small></h2><div class=cards>{cards}</div>"
    )


def _card(one: Scored, reals: Mapping[str, str], videos: Mapping[str, str]) -> str:
    of = one.generation
    sides = _side("real", reals.get(of.clip_id), "no video of the real clip") + _side(
        f"generated, seed {of.seed}", videos.get(of.generation_id), one.why or "no video"
    )
    adherence = "" if one.adherence is None else f"{one.right} of {one.ruled} fields right"
    cuts = f"{one.cuts} cuts inside" if one.cuts else ""
    about = "; ".join(part for part in (adherence, cuts, of.task, of.model) if part)
    why = f"<p class=error>{escape(one.why)}</p>" if one.why else ""
    return (
        f"<div class=card><div class=sides>{sides}</div><p class=prompt>{escape(of.prompt)}</p>"
        f"<p class=about>{escape(about)}</p>{why}<table>{''.join(_items(one))}</table></div>"
    )


def _side(caption: str, path: str | None, otherwise: str) -> str:
    shown = (
        f"<video controls muted loop preload=metadata src='{escape(quote(path))}'></video>"
        if path
        else f"<div class=none>{escape(otherwise)}</div>"
    )
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _items(one: Scored) -> Iterator[str]:
    """The fields, those that are wrong first."""
    if not one.items:
        return
    yield _head("field", "prompt asks for", "caption of what came out")
    for verdict in ("wrong", "right"):
        for item in one.items:
            if item.verdict == verdict:
                field = item.field.replace("_", "_<wbr>")
                yield (
                    f"<tr class={verdict}><td>{field}<td>{escape(' or '.join(item.truth))}"
                    f"<td>{escape(item.answer) or '<small>nothing</small>'}</tr>"
                )


def _problems(lines: Sequence[str]) -> str:
    if not lines:
        return "<p>None.</p>"
    return "<ul>" + "".join(f"<li class=error>{escape(line)}" for line in lines) + "</ul>"
