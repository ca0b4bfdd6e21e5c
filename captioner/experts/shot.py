"""Shot type, position and angle, from how much of the main figure is in frame and how it is
turned.

The ladder of shot types is the textbook one (Bordwell and Thompson, Film Art: framing by the human
figure): extreme close-up, part of a face; close-up, the head and little else; medium, from the
waist or the knees up; full, the whole figure; long, a figure that is small in its setting. A shot
without people is measured by the same ladder: how many metres of the world the frame is high.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median

from captioner.experts.ground import Camera, camera_over_ground
from captioner.experts.people import FIGURE_HEADS, Person, people
from captioner.experts.sightings import Sightings
from captioner.experts.subjects import SubjectSighting

OVERFLOWING_HEAD = 1.25
"""Head over frame height from which not even hairline to chin fits: an extreme close-up."""

CLOSE_HEAD = 0.5
"""Head over frame height from which a close-up: two heads high, the frame ends at the shoulders'
line and chest (1.5 to 2 heads below the crown)."""

SMALL_FIGURE = 0.4
"""Figure over frame height below which the setting is larger than the figure: a long shot."""

MIN_AGREEMENT = 0.6
"""Share of the pictures that must give one answer."""

MIN_CLEAR = 0.4
"""Share of the pictures that must give the position; the others may lie between two views."""

FRONT_YAW, SIDE_YAW = 30.0, 45.0
"""Degrees that the mesh gives; three-quarter views in between are left open. It gives no more than
about 50 to a full profile, since it guesses the hidden half."""

LEVEL_PITCH = 15.0
"""Degrees by which a head may look up or down, seen from the camera, in an eye-level shot."""

HIGH_CAMERA, LOW_CAMERA = 1.5, 0.5
"""Heights of the camera, in heights of the people it sees."""

HIGH_HORIZON = 0.15
"""Horizon, as a fraction of the frame from the top, of a camera that looks clearly down."""

MESH_PITCH = 6.0
"""Degrees that the mesh gives for a head held level: the forehead lies behind the chin."""

LEVEL_HEAD = 0.1
"""Least head over frame height for its pitch to say where the camera is: of a small figure only
the ground does."""

# Typical heights in metres, for shots without people: of kinds of subjects, and of COCO's things
# (a kite may be a toy of one metre or the canopy of a paraglider, of three and more).
METRES = {"Insect": 0.03, "Flower": 0.08, "Food": 0.15}
METRES_OF = {
    "person": 1.7, "bird": 0.3, "kite": 2.0, "car": 1.5, "truck": 3.0, "bus": 3.0, "train": 4.0,
    "airplane": 6.0, "bicycle": 1.0, "motorcycle": 1.2, "boat": 3.0,
    "sheep": 0.9, "cow": 1.4, "horse": 1.6, "zebra": 1.4, "giraffe": 5.0, "elephant": 3.0,
    "banana": 0.15, "apple": 0.08, "orange": 0.08, "broccoli": 0.15, "carrot": 0.1,
    "sandwich": 0.1, "hot dog": 0.08, "pizza": 0.3, "donut": 0.1, "cake": 0.15,
}  # fmt: skip

SMALL_THING = 0.15
"""Metres."""

LADDER = ((0.1, "extreme_close_up"), (0.7, "close_up"), (1.4, "medium_shot"), (4.0, "full_shot"))
"""Frame height in metres below which a shot is of this type; a long shot above. A head is 0.23 m,
so two or three heads are 0.7, half a figure with its headroom 1.4; a 1.7 m figure that fills two
fifths of the frame leaves 4."""


@dataclass(frozen=True)
class Answer:
    """An option of the schema and a confidence from 0 to 1."""

    value: str
    confidence: float


def shot_type(sightings: Sightings, subjects: tuple[SubjectSighting, ...]) -> Answer | None:
    """The shot type, or None where no main subject gives the scale or the pictures disagree."""
    main = next((one for one in subjects if one.is_main_subject), None)
    if main is None or main.type != "Human":
        return _without_people(sightings, main)
    votes = []
    for look in sightings.looks:
        found = people(look)
        if found and (vote := framing(found[0])) is not None:
            votes.append(vote)
    return _agreed(votes)


def framing(person: Person) -> str | None:
    """The shot type of one picture by its main person, or None where no part gives the scale."""
    head = person.head
    if head is not None and head >= OVERFLOWING_HEAD:
        return "extreme_close_up"
    if head is not None and head >= CLOSE_HEAD:
        return "close_up"
    if person.body is not None and person.body.shows_feet:
        return "full_shot" if person.box.height >= SMALL_FIGURE else "long_shot"
    if person.body is not None and person.box.height < SMALL_FIGURE and person.box.bottom < 0.95:
        return "long_shot"
    if head is None:
        return None
    if person.body is None and person.crown + head * FIGURE_HEADS <= 1:
        return None  # the whole figure would fit, but whether it is there was not looked at
    return "long_shot" if head * FIGURE_HEADS < SMALL_FIGURE else "medium_shot"


def shot_position(sightings: Sightings) -> Answer | None:
    """front_view, side_view or back_view of the main person, else None."""
    votes = []
    for look in sightings.looks:
        found = people(look)
        if found and (vote := facing(found[0], sightings.aspect)) is not None:
            votes.append(vote)
    clear = _agreed([vote for vote in votes if vote != ""])
    if clear is None or votes.count(clear.value) < MIN_CLEAR * len(votes):
        return None
    return Answer(clear.value, clear.confidence * votes.count(clear.value) / len(votes))


def facing(person: Person, aspect: float) -> str | None:
    """The view of one person: by the face, else by shoulders and face points of the body.

    An empty string where it lies between two views, None where nothing is seen. `aspect` is the
    frame's width over its height.
    """
    if person.face is not None:
        turn = abs(person.face.yaw)
        return "front_view" if turn <= FRONT_YAW else "side_view" if turn >= SIDE_YAW else ""
    body = person.body
    if body is None or body.torso is None:
        return None
    left, right = body.seen("left_shoulder"), body.seen("right_shoulder")
    if left is None or right is None:
        return None
    across = (left[0] - right[0]) * aspect / body.torso
    return body_facing(across, body.score_of("nose", "left_eye", "right_eye"))


def body_facing(across: float, face_score: float) -> str:
    """The view of a body by its shoulders' width over the torso's length (left minus right, so
    negative from behind) and the mean score of nose and eyes."""
    # Shoulders seen from the front are about 0.8 torsos wide; 30 degrees off they are 0.7.
    if across >= 0.5 and face_score >= 0.6:
        return "front_view"
    if across <= -0.4 and face_score < 0.5:
        return "back_view"
    return ""


def shot_angle(sightings: Sightings) -> Answer | None:
    """The angle by the ground that several people stand on, or else eye_level where the main head
    is seen straight on; None where neither tells.

    A single head that looks up or down says nothing sure about the camera.
    """
    boxes = [person.box for look in sightings.close for person in look.people]
    camera = camera_over_ground(boxes, sightings.aspect)
    if camera is not None:
        by_ground = angle_over_ground(camera)
        return Answer(by_ground, 0.8) if by_ground is not None else None
    heads = [
        found[0].face
        for look in sightings.looks
        if (found := people(look)) and found[0].face is not None
    ]
    near = [face.pitch for face in heads if face is not None and face.height >= LEVEL_HEAD]
    if len(near) < 2:
        return None
    tilt = abs(median(near) - MESH_PITCH)
    if tilt > LEVEL_PITCH:
        return None
    return Answer("eye_level", 1 - 0.5 * tilt / LEVEL_PITCH)


def angle_over_ground(camera: Camera) -> str | None:
    """The angle of a camera over people's ground, or None between two angles.

    High is above their heads and tilted down until the horizon nears the top; low is under their
    waists, eye level between waist and just over their heads.
    """
    if camera.lowest > HIGH_CAMERA and camera.horizon < HIGH_HORIZON:
        return "high_angle"
    if camera.highest < LOW_CAMERA:
        return "low_angle"
    if camera.lowest > LOW_CAMERA and camera.highest < HIGH_CAMERA:
        return "eye_level"
    return None


def _without_people(sightings: Sightings, main: SubjectSighting | None) -> Answer | None:
    """The shot type by the height of the frame in metres."""
    if main is not None and main.box is None:
        # Something this small that the picture as a whole is of fills a good part of it.
        size = METRES.get(main.sub_type, METRES.get(main.type, math.inf))
        if size <= SMALL_THING:
            return Answer("close_up", main.confidence)
    votes = []
    for look in sightings.close:
        # What touches an edge may go on beyond it; the largest whole thing is the surest.
        whole = [(one.box.height, one.name) for one in look.things or () if one.box.inside]
        sized = [(height, METRES_OF[name]) for height, name in whole if name in METRES_OF]
        if sized:
            height, size = max(sized)
            votes.append(by_frame_height(size / height))
    return _agreed(votes)


def by_frame_height(metres: float) -> str:
    """The shot type of a frame that is this many metres high."""
    return next((name for limit, name in LADDER if metres < limit), "long_shot")


def _agreed(votes: list[str]) -> Answer | None:
    """The most frequent vote, if enough of them agree."""
    if not votes:
        return None
    name, count = Counter(votes).most_common(1)[0]
    share = count / len(votes)
    # One picture alone is not evidence of a whole shot.
    if share < MIN_AGREEMENT or count < 2:
        return None
    return Answer(name, share)
