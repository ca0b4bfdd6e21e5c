"""Camera motion in words to signed axes, so that two ways of saying one move are one move.

Reads the names that the experts and the labels use (`pan_left+tilt_down`), SkyCaptioner's phrases
(skycaptioner_v1/examples/test_result.csv: "use a tracking shot, the camera moves forward") and
plain English like them. The axes are the paper's six, the speeds its three (SkyReels-V2, the
camera-motion captioner); zoom and dolly are one axis here, as the published phrases do not keep
them apart ("the camera moves toward zooms in").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

Speed = Literal["", "slow", "medium", "fast"]

AXES = ("truck", "pedestal", "dolly", "pan", "tilt", "roll")

_NAMES = {
    "truck": ("truck_right", "truck_left"),
    "pedestal": ("pedestal_up", "pedestal_down"),
    "dolly": ("push_in", "pull_out"),
    "pan": ("pan_right", "pan_left"),
    "tilt": ("tilt_up", "tilt_down"),
    "roll": ("roll_cw", "roll_ccw"),
}
"""Positive and negative name of each axis, as `captioner.experts.camera` has them."""


@dataclass(frozen=True)
class CameraMove:
    """What a text says of the camera. `signs` are +1, 0 or -1 on each of `AXES`; `static` says
    outright that nothing moves. `tracking` and `speed` ("" where nothing is said) are no part of
    the name: they tell what the camera follows and how fast it goes."""

    signs: tuple[int, ...] = (0,) * len(AXES)
    handheld: bool = False
    static: bool = False
    tracking: bool = False
    speed: Speed = ""

    @property
    def elements(self) -> frozenset[str]:
        """The signed moves, and `handheld` or `static`."""
        names = [_NAMES[axis][sign < 0] for axis, sign in zip(AXES, self.signs) if sign]
        names += ["handheld"] * self.handheld
        return frozenset(names or ["static"] * self.static or ["tracking"] * self.tracking)

    @property
    def name(self) -> str:
        """The elements in the order of the axes, joined by "+"; never empty."""
        order = [name for axis in AXES for name in _NAMES[axis]]
        order += ["handheld", "static", "tracking"]
        return "+".join(sorted(self.elements, key=order.index))


_SIDE = {"left": -1, "right": 1}
_HEIGHT = {"up": 1, "down": -1}
_DEPTH = {"in": 1, "out": -1}
_TURN = {"cw": 1, "ccw": -1}

_DIRECTIONS = {
    "left": r"left(?:wards?)?",
    "right": r"right(?:wards?)?",
    "up": r"up(?:wards?)?|higher",
    "down": r"down(?:wards?)?|lower",
    "in": r"in|inwards?|towards?|forwards?|ahead|closer|nearer",
    "out": r"out|outwards?|back|backwards?|away",
    "ccw": r"ccw|counter[- ]?clockwise|anti[- ]?clockwise",
    "cw": r"cw|clockwise",
}

_VERBS: dict[str, tuple[str, str]] = {
    "pan": (r"pan(?:s|ned|ning)?|yaws?|swivel\w*|whip pans?", ""),
    "tilt": (r"tilt\w*|pitch(?:es|ing)?", ""),
    "roll": (r"roll(?:s|ed|ing)?", ""),
    "rotate": (r"rotat\w+|turn(?:s|ed|ing)?|spins?|spinning", ""),
    "zoom": (r"zoom\w*", ""),
    "push": (r"push(?:es|ed|ing)?", "in"),
    "pull": (r"pull(?:s|ed|ing)?", "out"),
    "rise": (r"ris(?:e|es|ing)|ascend\w*|climb\w*", "up"),
    "fall": (r"descend\w*|lower(?:s|ed|ing)|sink\w*", "down"),
    "approach": (r"approach\w*|advanc\w+", "in"),
    "retreat": (r"retreat\w*|reced\w+|withdraw\w*", "out"),
    "move": (
        r"mov(?:e|es|ed|ing|ement)|truck(?:s|ed|ing)?|slid(?:e|es|ing)|travel\w*|dolly\w*|"
        r"dollies|glid(?:e|es|ing)|shift\w*|track(?:s|ed|ing)?|pedestals?|cran(?:e|es|ing)|"
        r"boom(?:s|ing)?|fl(?:y|ies|ying)|drift\w*|follow\w*",
        "",
    ),
}  # fmt: skip
"""Words of each verb, and the direction that it means where none is said."""

_SIDEWAYS = {way: ("truck", sign) for way, sign in _SIDE.items()}
_LIFT = {way: ("pedestal", sign) for way, sign in _HEIGHT.items()}
_ALONG = {way: ("dolly", sign) for way, sign in _DEPTH.items()}
_PAN = {way: ("pan", sign) for way, sign in _SIDE.items()}
_TILT = {way: ("tilt", sign) for way, sign in _HEIGHT.items()}
_ROLL = {way: ("roll", sign) for way, sign in _TURN.items()}

_MEANING: dict[str, dict[str, tuple[str, int]]] = {
    "pan": _PAN | _TILT,
    "tilt": _TILT,
    "roll": _ROLL | {"right": ("roll", 1), "left": ("roll", -1)},
    "rotate": _ROLL | _PAN | _TILT,
    "zoom": _ALONG,
    "push": _ALONG,
    "pull": _ALONG,
    "rise": _LIFT,
    "fall": _LIFT,
    "approach": _ALONG,
    "retreat": _ALONG,
    "move": _SIDEWAYS | _LIFT | _ALONG,
}
"""What a verb with a direction moves: the axis and the sign."""

_WORD = re.compile(
    "|".join(
        [f"(?P<verb_{name}>\\b(?:{words})\\b)" for name, (words, _) in _VERBS.items()]
        + [f"(?P<way_{name}>\\b(?:{words})\\b)" for name, words in _DIRECTIONS.items()]
    )
)
_BREAK = re.compile(r"[,;.+>|]|\bthen\b|\bwhile\b|\bbefore\b|\bfollowed by\b")
_STATIC = re.compile(
    r"\b(?:static|stationary|motionless|immobile|locked|fixed|still)\b|"
    r"\b(?:no|not|without|never)\b[\w ]{0,20}\bmov"
)
_HANDHELD = re.compile(r"\bhand ?held\b|\bshak(?:y|es|ing|e)\b|\bjitter\w*|\bwobbl\w*")
_TRACKING = re.compile(r"\btracking\b|\btracks\b|\bfollow(?:s|ing)\b")
_NEGATED = re.compile(r"\b(?:no|not|without|never)\b[^,;.]*")
_IDIOMS = re.compile(r"\b(?:follow(?:s|ing)? (?:shot|the \w+)|tracking shot|followed by)\b")
_SPEEDS: MappingProxyType[Speed, re.Pattern[str]] = MappingProxyType(
    {
        "slow": re.compile(r"\bslow(?:ly)?\b|\bgentl[ey]\b|\bgradual(?:ly)?\b"),
        "medium": re.compile(r"\bmedium\b|\bmoderate(?:ly)?\b"),
        "fast": re.compile(r"\bfast\b|\bquick(?:ly)?\b|\brapid(?:ly)?\b|\bswift(?:ly)?\b|\bwhip\b"),
    }
)


@lru_cache(maxsize=65536)
def read_camera(text: str) -> CameraMove | None:
    """What the text says of the camera, None where it says nothing that can be read.

    Of two moves on one axis ("pans left, then right") the first counts.
    """
    plain = re.sub(r"[_\-]+", " ", text.lower()).replace("anti clock", "anticlock")
    plain = plain.replace("counter clock", "counterclock")
    # SkyCaptioner's phrases: the zoom says which way.
    plain = re.sub(r"\bmoves (?:toward|away) zooms\b", "zooms", plain)
    signs = dict.fromkeys(AXES, 0)
    for axis, sign in _moves(_IDIOMS.sub(" ", _NEGATED.sub(" ", plain))):
        signs[axis] = signs[axis] or sign
    handheld = bool(_HANDHELD.search(plain))
    moving = handheld or any(signs.values())
    move = CameraMove(
        signs=tuple(signs.values()),
        handheld=handheld,
        static=not moving and bool(_STATIC.search(plain)),
        tracking=bool(_TRACKING.search(plain)),
        speed=next((speed for speed, words in _SPEEDS.items() if words.search(plain)), ""),
    )
    return move if move.elements else None


def _moves(text: str) -> list[tuple[str, int]]:
    """Each verb with the directions after it; one without a direction says its own, if any."""
    found: list[tuple[str, int]] = []
    for clause in _BREAK.split(text):
        verb, told = "", True
        for match in _WORD.finditer(clause):
            kind, _, name = (match.lastgroup or "").partition("_")
            if kind == "way":
                if move := _MEANING.get(verb, {}).get(name):
                    found.append(move)
                    told = True
                continue
            found += _implied(verb, told)
            verb, told = name, False
        found += _implied(verb, told)
    return found


def _implied(verb: str, told: bool) -> list[tuple[str, int]]:
    if told or not verb or not (way := _VERBS[verb][1]):
        return []
    return [_MEANING[verb][way]]
