"""Faces: where they are, which way the head is turned, how far the mouth is open.

BlazeFace (back-camera model, 256 x 256) finds faces; the MediaPipe face mesh puts 468 points on
each and rejects what is not a face. Input sizes, anchors and point numbers are those of the
MediaPipe face_detection_back and face_landmark model cards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box, keep_best
from captioner.experts.networks import onnx, tflite

Rgb = NDArray[np.uint8]
Points = NDArray[np.float64]

DETECTOR_SIDE = 256
MESH_SIDE = 192
MESH_MARGIN = 1.5
"""The mesh was trained on square crops 1.5 times the detected box."""

MIN_SCORE = 0.5
MIN_PRESENCE = 0.5
"""The models' own midpoints: below, a thing is more likely not a face."""

# Numbers of points on the mesh, from its canonical face model.
_FOREHEAD, _CHIN, _RIGHT_SIDE, _LEFT_SIDE = 10, 152, 234, 454
_LIPS = (13, 14, 78, 308)
_FIVE = (263, 362, 33, 133, 2)

# dlib's face chips (get_face_chip_details of dlib/image_transforms/interpolation.h): where the
# five points of the mean face lie, and the chip of dlib-models' gender classifier.
_CHIP_FIVE = np.array(
    [[0.8596, 0.2135], [0.6461, 0.2290], [0.1206, 0.2137], [0.3341, 0.2291], [0.4901, 0.6278]]
)
_CHIP_PADDING = 0.2
_CHIP_SIDE = 32
_CHIP_MEAN = np.array([122.782, 117.001, 104.298], np.float32)


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    `box` is the detected face, brow to chin; `score` 0 to 1. Angles in degrees, seen from the
    camera: `yaw` is 0 when the face looks into the camera and grows as it turns to the right of
    the picture, `pitch` grows as it looks down, `roll` as it tilts clockwise. `height` is the
    distance from hairline to chin along the face, in fractions of the frame's height, whichever
    way it is turned. `mouth_open` is the gap between the lips over the width of the mouth.
    `five` holds eye corners and nose base as (x, y) pixels: left eye outer and inner, right eye
    outer and inner, nose.
    """

    box: Box
    score: float
    yaw: float
    pitch: float
    roll: float
    height: float
    mouth_open: float
    five: tuple[tuple[float, float], ...]


def find_faces(rgb: Rgb, within: Box | None = None) -> tuple[Face, ...]:
    """Faces of an (H, W, 3) uint8 picture, or of a part of it, best first.

    `within` looks more closely at one part: faces under a tenth of the detector's 256 pixels are
    missed in the whole picture.
    """
    height, width = rgb.shape[:2]
    part = (within or Box(0, 0, 1, 1)).clipped()
    x0, x1 = round(part.left * width), round(part.right * width)
    y0, y1 = round(part.top * height), round(part.bottom * height)
    if x1 - x0 < 8 or y1 - y0 < 8:
        return ()
    corner = np.array([x0, y0])
    faces = []
    for score, corners, eyes in _detect(rgb[y0:y1, x0:x1]):
        face = _mesh(rgb, score, corners + corner, eyes + corner)
        if face is not None:
            faces.append(face)
    return tuple(faces)


def head_angles(mesh: Points) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in degrees of mesh points (468, 3): x right, y down, z away.

    Raises IndexError for fewer points.
    """
    across = mesh[_LEFT_SIDE] - mesh[_RIGHT_SIDE]
    down = mesh[_CHIN] - mesh[_FOREHEAD]
    yaw = math.atan2(across[2], math.hypot(across[0], across[1]))
    pitch = math.atan2(down[2], math.hypot(down[0], down[1]))
    roll = math.atan2(across[1], across[0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def mouth_opening(mesh: Points) -> float:
    """The gap between the lips over the width of the mouth, from mesh points (468, 3)."""
    upper, lower, right, left = (mesh[i] for i in _LIPS)
    width = float(np.linalg.norm(left - right))
    return float(np.linalg.norm(lower - upper)) / width if width > 0 else 0.0


def _detect(rgb: Rgb) -> list[tuple[float, Points, Points]]:
    """(score, corners (2, 2), eyes (2, 2)) in pixels."""
    height, width = rgb.shape[:2]
    scale = DETECTOR_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    left, top = (DETECTOR_SIDE - size[0]) // 2, (DETECTOR_SIDE - size[1]) // 2
    canvas = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = shrunk
    regressions, logits = tflite("face_detection_back.tflite")(
        (canvas[None].astype(np.float32) - 127.5) / 127.5
    )
    scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -80, 80)))
    found = np.flatnonzero(scores > MIN_SCORE)
    # The first four numbers are centre and size, then come six points; all in detector pixels.
    points = regressions[0, found].astype(np.float64).reshape(-1, 8, 2)
    anchors = _anchors()[found] * DETECTOR_SIDE
    half = points[:, 1] / 2
    centre = points[:, 0] + anchors
    corners = np.stack([centre - half, centre + half], 1)
    eyes = points[:, 2:4] + anchors[:, None]
    offset = np.array([left, top])
    corners, eyes = (corners - offset) / scale, (eyes - offset) / scale
    boxes = [Box(*(float(v) for v in c.ravel())) for c in corners]
    return [
        (float(scores[found[i]]), corners[i], eyes[i])
        for i in keep_best(boxes, [float(s) for s in scores[found]], overlap=0.3)
    ]


@cache
def _anchors() -> Points:
    """(896, 2) centres in fractions: 2 a cell of a 16 x 16 grid, then 6 a cell of an 8 x 8 one."""
    grids = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = np.stack([(x + 0.5) / cells, (y + 0.5) / cells], -1).reshape(-1, 2)
        grids.append(np.repeat(centres, each, axis=0))
    return np.concatenate(grids)


def _mesh(rgb: Rgb, score: float, corners: Points, eyes: Points) -> Face | None:
    """The face with its pose, or None where the mesh says that it is none."""
    side = MESH_MARGIN * float((corners[1] - corners[0]).max())
    if side < 8:
        return None
    centre = corners.mean(0)
    tilt = math.degrees(math.atan2(*(eyes[1] - eyes[0])[::-1]))
    turn = np.asarray(
        cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), tilt, MESH_SIDE / side)
    )
    turn = turn + np.column_stack([np.zeros((2, 2)), MESH_SIDE / 2 - centre])
    crop = cv2.warpAffine(rgb, turn, (MESH_SIDE, MESH_SIDE))
    points, presence = tflite("face_landmark.tflite")(crop[None].astype(np.float32) / 255)
    if 1 / (1 + math.exp(-float(presence.ravel()[0]))) < MIN_PRESENCE:
        return None
    mesh = points.reshape(-1, 3).astype(np.float64)
    yaw, pitch, roll = head_angles(mesh)
    back = cv2.invertAffineTransform(turn)
    flat = mesh[:, :2] @ back[:, :2].T + back[:, 2]
    height, width = rgb.shape[:2]
    long = float(np.linalg.norm(mesh[_CHIN] - mesh[_FOREHEAD])) * side / MESH_SIDE
    (left, top), (right, bottom) = corners.tolist()
    return Face(
        box=Box(left / width, top / height, right / width, bottom / height),
        score=score,
        yaw=yaw,
        pitch=pitch,
        roll=roll + tilt,
        height=long / height,
        mouth_open=mouth_opening(mesh),
        five=tuple((float(flat[i, 0]), float(flat[i, 1])) for i in _FIVE),
    )


def man_probability(rgb: Rgb, face: Face) -> float:
    """The probability, 0 to 1, that a face of an (H, W, 3) uint8 picture is a man's, not a
    woman's."""
    template = (_CHIP_FIVE + _CHIP_PADDING) / (1 + 2 * _CHIP_PADDING) * _CHIP_SIDE
    onto, _ = cv2.estimateAffinePartial2D(np.array(face.five), template, method=cv2.LMEDS)
    if onto is None:
        return 0.5
    # Shrinking by warping alone would alias: blur to the chip's own resolution first.
    scale = math.hypot(onto[0, 0], onto[0, 1])
    shrink = max(1, int(1 / scale))
    small = cv2.resize(rgb, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    onto = np.asarray(onto) * [shrink, shrink, 1]
    chip = cv2.warpAffine(small, onto, (_CHIP_SIDE, _CHIP_SIDE), borderMode=cv2.BORDER_REPLICATE)
    x = (chip.astype(np.float32) - _CHIP_MEAN) / 256
    (probabilities,) = onnx("gender.onnx")(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))
    return float(probabilities[0, 1])
