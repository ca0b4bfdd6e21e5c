"""People: the faces and the bodies of one picture, put together, the main one first."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.experts.bodies import Body
from captioner.experts.boxes import Box
from captioner.experts.faces import Face
from captioner.experts.sightings import Look

HEAD_OF_FACE = 1.25
"""Head over face: crown to chin is an eighth of a figure, hairline to chin a tenth (Vitruvius)."""

FIGURE_HEADS = 7.5
"""Heads in a standing figure (the academic canon of artists' anatomy)."""

TORSO_HEADS = 2.5
"""Heads from the shoulders, 1.5 below the crown, to the hips, 4 below it, by the same canon."""

SHOULDER_HEADS = 2.0
"""Widths of a head that make the shoulders' width, also by the canon (2 to 2.3)."""


@dataclass(frozen=True)
class Person:
    """A person in one picture: a face, a body or both."""

    box: Box
    score: float
    face: Face | None = None
    body: Body | None = None

    @property
    def head(self) -> float | None:
        """Height of the head, crown to chin, in fractions of the frame's height, from the face or
        else from shoulders and hips; None where neither is seen."""
        if self.face is not None:
            return self.face.height * HEAD_OF_FACE
        if self.body is None:
            return None
        torso = self.body.torso
        return torso / TORSO_HEADS if torso is not None else None

    @property
    def crown(self) -> float:
        """Where the head begins, as a fraction of the frame's height from the top."""
        if self.face is None:
            return self.box.top
        return self.face.box.bottom - self.face.height * HEAD_OF_FACE

    @property
    def prominence(self) -> float:
        """How much a viewer looks at this person: the area, half as much without a face."""
        return self.box.clipped().area * (1.0 if self.face is not None else 0.5)


def people(look: Look) -> tuple[Person, ...]:
    """The people of one picture, the most prominent first."""
    faces = list(look.faces)
    bodies = {body.box: body for body in look.bodies}
    found = []
    # The nearest face to the top of a box is its own; small boxes choose first.
    for thing in sorted(look.people, key=lambda thing: thing.box.area):
        inside = [face for face in faces if thing.box.holds(*face.box.centre)]
        own = min(inside, key=lambda face: abs(face.box.top - thing.box.top), default=None)
        if own is not None:
            faces.remove(own)
        found.append(Person(thing.box, thing.score, own, bodies.get(thing.box)))
    found += [Person(_figure(face), face.score, face) for face in faces]
    return tuple(sorted(found, key=lambda person: -person.prominence))


def _figure(face: Face) -> Box:
    """Where a figure with this face would be, standing and inside the frame."""
    x, _ = face.box.centre
    half = face.box.width * SHOULDER_HEADS / 2
    head = face.height * HEAD_OF_FACE
    crown = face.box.bottom - head
    feet = crown + head * FIGURE_HEADS
    return Box(x - half, crown, x + half, feet).clipped()
