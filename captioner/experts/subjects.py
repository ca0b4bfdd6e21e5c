"""The subjects of a shot in SkyCaptioner's vocabulary: what they are, where, which is the main
one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.bodies import Body
from captioner.experts.boxes import Box
from captioner.experts.faces import man_probability
from captioner.experts.people import Person, people
from captioner.experts.sightings import Look, Sightings
from captioner.experts.taxonomy import COCO_KINDS, Kind, kind_shares
from captioner.experts.text import TextLine

MIN_AREA = 0.015
"""Share of the frame that people must fill in all: below they are part of the setting."""

MIN_CLASS = 0.5
"""Probability of a type, summed over its classes, from which the picture is of it."""

MIN_BEST = 0.3
"""Probability of the type's likeliest class: where none stands out it is the surroundings that
are known (ants, bees and ladybirds sit on flowers)."""

MIN_SHARE = 0.5
"""Share of the closely searched pictures that must show a thing."""

MIN_WEAK = 0.6
"""Score of a person seen in fewer pictures, which counts only where nothing else is seen."""

SURE_GENDER = 0.85
"""Mean probability of woman or man, over the faces of one person, for the word to be used."""

OTHER_PERSON = 0.25
"""A further person is a subject from this share of the main one's area."""

MAX_OTHERS = 3

MIDDLE = Box(0.25, 0.2, 0.75, 0.8)
"""Where a title stands."""

TEXT_AREA = 0.04
"""Share of the frame from which text is a subject where there is no other: a title, not a logo."""


@dataclass(frozen=True)
class SubjectSighting:
    """One subject. `box` in fractions of the picture without bars, or None where only the picture
    as a whole says what it shows; `sub_type`, `position` and `appearance` are empty where nothing
    sure was seen."""

    type: str
    sub_type: str
    position: str
    is_main_subject: bool
    confidence: float
    appearance: str = ""
    box: Box | None = None


def describe_subjects(
    sightings: Sightings, text: tuple[TextLine, ...] = ()
) -> tuple[SubjectSighting, ...]:
    """The subjects of a clip, the main one first; empty where none is sure."""
    humans = _humans(sightings)
    things = _things(sightings)
    whole = _whole(sightings.classes)
    if humans:
        # Beside people, what the picture as a whole looks like is no subject of its own.
        return (*humans, *(_beside(thing) for thing in things))
    if whole is not None:
        return (_with_box(whole, things),)
    if things:
        return (things[0], *(_beside(thing) for thing in things[1:]))
    return _weak_human(sightings) or _title(text)


def position_words(box: Box) -> str:
    """Where a box lies, in words."""
    x, y = box.clipped().centre
    side = "left" if x < 0.4 else "right" if x > 0.6 else ""
    level = "upper" if y < 0.35 else "lower" if y > 0.7 else ""
    if box.clipped().area > 0.6:
        return "Filling most of the frame."
    if not side and not level:
        return "Centered in the frame."
    if not side:
        return f"In the {level} center of the frame."
    if not level:
        return f"On the {side} side of the frame."
    return f"In the {level} {side} of the frame."


def _humans(sightings: Sightings) -> tuple[SubjectSighting, ...]:
    close = [people(look) for look in sightings.close]
    seen = [found for found in close if sum(p.box.clipped().area for p in found) >= MIN_AREA]
    faces = sum(bool(look.faces) for look in sightings.looks) / len(sightings.looks)
    share = len(seen) / len(close)
    if max(share, faces) < MIN_SHARE or not seen:
        return ()
    mains = [found[0] for found in seen]
    confidence = max(share, faces) * fmean(person.score for person in mains)
    box = _mean_box([person.box for person in mains])
    gender = _gender([(look, p[0]) for look in sightings.looks if (p := people(look))])
    main = SubjectSighting(
        "Human", gender, position_words(box), True, confidence, _clothing(sightings), box
    )
    return (main, *_other_people(sightings))


def _other_people(sightings: Sightings) -> tuple[SubjectSighting, ...]:
    """People beside the main one, as many as the median picture shows."""
    ranked = []
    for look in sightings.close:
        found = people(look)
        large = [p for p in found[1:] if p.box.area >= OTHER_PERSON * found[0].box.area]
        ranked.append((look, large))
    counts = sorted(len(found) for _, found in ranked)
    count = min(MAX_OTHERS, counts[(len(counts) - 1) // 2])
    look, large = next(pair for pair in ranked if len(pair[1]) >= count)
    return tuple(
        SubjectSighting(
            "Human",
            _gender([(look, person)]),
            position_words(person.box),
            False,
            person.score,
            box=person.box,
        )
        for person in large[:count]
    )


def _weak_human(sightings: Sightings) -> tuple[SubjectSighting, ...]:
    """A person that few pictures show, where nothing else is seen."""
    best = max(
        (person for look in sightings.looks for person in people(look)),
        key=lambda person: person.score,
        default=None,
    )
    if best is None or best.score < MIN_WEAK or best.box.clipped().area < MIN_AREA:
        return ()
    words = position_words(best.box)
    return (SubjectSighting("Human", "", words, True, best.score / 2, box=best.box),)


def _gender(seen: list[tuple[Look, Person]]) -> str:
    men = [man_probability(look.rgb, p.face) for look, p in seen if p.face is not None]
    if not men:
        return ""
    mean = fmean(men)
    return "Man" if mean >= SURE_GENDER else "Woman" if mean <= 1 - SURE_GENDER else ""


def _things(sightings: Sightings) -> tuple[SubjectSighting, ...]:
    """Kinds of things other than people that enough pictures show, the largest first."""
    boxes: dict[Kind, list[Box]] = {}
    scores: dict[Kind, list[float]] = {}
    for look in sightings.close:
        kinds: set[Kind] = set()
        for thing in look.things or ():
            kind = COCO_KINDS.get(thing.name)
            if kind is not None and kind not in kinds:
                kinds.add(kind)
                boxes.setdefault(kind, []).append(thing.box)
                scores.setdefault(kind, []).append(thing.score)
    least = MIN_SHARE * len(sightings.close)
    found = []
    for kind, where in boxes.items():
        if len(where) >= least:
            box = _mean_box(where)
            confidence = fmean(scores[kind]) * len(where) / len(sightings.close)
            words = position_words(box)
            found.append(SubjectSighting(*kind, words, True, confidence, box=box))
    return tuple(sorted(found, key=lambda one: -(one.box.area if one.box else 0.0)))


def _whole(classes: NDArray[np.float64]) -> SubjectSighting | None:
    """What the picture as a whole is of."""
    shares = kind_shares(classes)
    types: dict[str, float] = {}
    for (name, _), share in shares.items():
        types[name] = types.get(name, 0.0) + share
    name, total = max(types.items(), key=lambda pair: pair[1])
    if total < MIN_CLASS or classes.max() < MIN_BEST:
        return None
    (_, sub_type), share = max(
        ((kind, share) for kind, share in shares.items() if kind[0] == name), key=lambda p: p[1]
    )
    sure = sub_type if share >= MIN_CLASS * total else ""
    return SubjectSighting(name, sure, "", True, total)


def _with_box(whole: SubjectSighting, things: tuple[SubjectSighting, ...]) -> SubjectSighting:
    """The same with the place of a detected thing of its type, if there is one."""
    for thing in things:
        if thing.type == whole.type:
            sub_type = whole.sub_type or thing.sub_type
            return SubjectSighting(
                whole.type, sub_type, thing.position, True, whole.confidence, box=thing.box
            )
    return whole


def _beside(thing: SubjectSighting) -> SubjectSighting:
    return SubjectSighting(
        thing.type, thing.sub_type, thing.position, False, thing.confidence, box=thing.box
    )


def _title(text: tuple[TextLine, ...]) -> tuple[SubjectSighting, ...]:
    # Titles stand in the middle; subtitles and logos keep to the edges.
    lasting = [line for line in text if line.share >= MIN_SHARE and MIDDLE.holds(*line.box.centre)]
    if sum(line.box.area for line in lasting) < TEXT_AREA:
        return ()
    largest = max(lasting, key=lambda line: line.box.area)
    words = position_words(largest.box)
    return (SubjectSighting("Text", "", words, True, largest.confidence, box=largest.box),)


def _mean_box(boxes: list[Box]) -> Box:
    edges = np.median([(b.left, b.top, b.right, b.bottom) for b in boxes], axis=0)
    return Box(*(float(edge) for edge in edges))


def _clothing(sightings: Sightings) -> str:
    """The colour of the main person's upper body, where most pictures agree on one."""
    colours = []
    for look in sightings.close:
        found = people(look)
        if found and found[0].body is not None:
            colours.append(_torso_colour(look.rgb, found[0].body))
    named = [colour for colour in colours if colour]
    if len(named) < 2:
        return ""
    colour, count = Counter(named).most_common(1)[0]
    return f"Wearing {colour} clothing on the upper body." if count > len(colours) / 2 else ""


def _torso_colour(rgb: NDArray[np.uint8], body: Body) -> str:
    points = [body.seen(f"{side}_{part}") for part in ("shoulder", "hip") for side in _SIDES]
    if any(point is None for point in points):
        return ""
    height, width = rgb.shape[:2]
    corners = np.array([point for point in points if point is not None]) * [width, height]
    # The middle of the torso: arms, hair and background are at its edges.
    corners = corners.mean(0) + 0.6 * (corners - corners.mean(0))
    inside = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(corners.round().astype(np.int32)), 1)
    return colour_name(rgb[inside > 0])


_SIDES = ("left", "right")


def colour_name(pixels: NDArray[np.uint8]) -> str:
    """The colour word of (N, 3) uint8 RGB pixels, or "" where no colour holds 60 % of them."""
    if len(pixels) < 50:
        return ""
    h, s, v = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV)[0].astype(int).T
    # Hue in half degrees; the limits are the middles between the six hues and orange.
    hues = np.array(["red", "orange", "yellow", "green", "blue", "purple", "red"])
    names = hues[np.digitize(h, [7, 20, 35, 85, 130, 165])]
    names = np.where(s < 45, np.select([v < 60, v > 180], ["black", "white"], "gray"), names)
    names = np.where(v < 45, "black", names)
    name, count = Counter(names.tolist()).most_common(1)[0]
    return str(name) if count >= 0.6 * len(names) else ""
