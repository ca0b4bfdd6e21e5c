"""The scoring rules once more, slowly and plainly, sharing no line with `eval.fields`.

Captions and labels are plain dictionaries; camera motion is given as sets of moves with their
words. Subjects are paired by trying every assignment.
"""

from itertools import combinations, permutations
from typing import Any

EMOTIONS = {"happy": "happiness", "sad": "sadness", "angry": "anger", "neutral": "neutral"}


def words(text: str) -> set[str]:
    return {w for w in text.lower().replace(".", "").split() if w not in ("the", "a", "on", "in")}


def likeness(label: dict[str, Any], subject: dict[str, Any]) -> float:
    value = same = 0.0
    if label.get("type") == subject["TYPES"]["type"] and "type" in label:
        value += 4
    if label.get("sub_type") == subject["TYPES"]["sub_type"] and "sub_type" in label:
        value += 3
    for field in ("appearance", "position", "action", "expression"):
        same += label.get(field) == subject[field]
        true, said = words(label.get(field, "")), words(subject[field])
        if true and said:
            value += 2 * len(true & said) / len(true | said)
    if value and label.get("is_main_subject") == subject["is_main_subject"]:
        value += 1
    return value + same / 100 if value else 0.0


def pairs(labels: list[dict[str, Any]], subjects: list[dict[str, Any]]) -> dict[int, int]:
    """The best of all assignments; the caller makes sure that there is only one."""
    best, found = -1.0, {}
    size = min(len(labels), len(subjects))
    for rows in combinations(range(len(labels)), size):
        for columns in permutations(range(len(subjects)), size):
            values = [likeness(labels[i], subjects[j]) for i, j in zip(rows, columns)]
            if sum(values) > best + 1e-9:
                best = sum(values)
                found = {i: j for i, j, v in zip(rows, columns, values) if v > 0}
    return found


def total(labels: list[dict[str, Any]], subjects: list[dict[str, Any]]) -> float:
    return sum(likeness(labels[i], subjects[j]) for i, j in pairs(labels, subjects).items())


def score(
    labels: dict[str, Any], caption: dict[str, Any] | None, moves: dict[str, frozenset[str]]
) -> dict[str, list[bool]]:
    """By field, whether each answer is right; free text is right when it is the same text."""
    result: dict[str, list[bool]] = {}
    for field in ("shot_type", "shot_angle", "shot_position", "environment", "lighting"):
        if field in labels:
            said = caption[field] if caption else None
            result[field] = [said == labels[field]]
    if "camera_motion" in labels:
        true = moves[labels["camera_motion"]]
        result["camera_motion"] = [caption is not None and moves[caption["camera_motion"]] == true]
    found = pairs(labels["subjects"], caption["subjects"]) if caption else {}
    for i, label in enumerate(labels["subjects"]):
        subject = caption["subjects"][found[i]] if caption and i in found else None
        for field, value in label.items():
            name = f"TYPES_{field}" if field in ("type", "sub_type") else field
            if subject is None:
                right = False
            elif field in ("type", "sub_type"):
                right = subject["TYPES"][field] == value
            elif field == "expression" and value in EMOTIONS.values():
                named = [EMOTIONS[w] for w in words(subject[field]) if w in EMOTIONS]
                right = named == [value]
            else:
                right = subject[field] == value
            result.setdefault(name, []).append(right)
    return result
