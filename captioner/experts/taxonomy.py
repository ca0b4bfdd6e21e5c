"""SkyCaptioner's subject vocabulary, and which COCO and ImageNet classes mean which word of it.

ImageNet's thousand classes are in the order of the 2012 challenge (the labels that ride with the
network), in which kinds of animals form runs. SkyCaptioner's published outputs call a spider an
Insect, so all arthropods of the land are one here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from captioner.weights import weight

Kind = tuple[str, str]

COCO_KINDS: dict[str, Kind] = {
    "bird": ("Animal", "Bird"),
    **dict.fromkeys(
        ("cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
        ("Animal", "Mammal"),
    ),
    "bicycle": ("Vehicles", "Bicycle"),
    "car": ("Vehicles", "Car"),
    "motorcycle": ("Vehicles", "Motorcycle"),
    "airplane": ("Vehicles", "Airplane"),
    "bus": ("Vehicles", "Bus"),
    "train": ("Vehicles", "Train"),
    "truck": ("Vehicles", "Truck"),
    "boat": ("Vehicles", "Ship"),
    **dict.fromkeys(("banana", "apple", "orange"), ("Food", "Fruit")),
    **dict.fromkeys(("broccoli", "carrot"), ("Food", "Vegetable")),
    **dict.fromkeys(("sandwich", "hot dog", "pizza", "donut", "cake"), ("Food", "Other")),
    "sports ball": ("Sport", "Other"),
    **dict.fromkeys(
        ("skis", "snowboard", "baseball bat", "baseball glove", "skateboard", "surfboard",
         "tennis racket"),
        ("Sport", "Other"),
    ),
}  # fmt: skip

_RUNS: tuple[tuple[int, int, Kind], ...] = (
    (0, 6, ("Animal", "Fish")),
    (7, 24, ("Animal", "Bird")),
    (25, 32, ("Animal", "Amphibian")),
    (33, 68, ("Animal", "Reptile")),
    (70, 79, ("Animal", "Insect")),
    (80, 100, ("Animal", "Bird")),
    (101, 106, ("Animal", "Mammal")),
    (127, 146, ("Animal", "Bird")),
    (147, 299, ("Animal", "Mammal")),
    (300, 326, ("Animal", "Insect")),
    (330, 388, ("Animal", "Mammal")),
    (389, 397, ("Animal", "Fish")),
    (924, 935, ("Food", "Other")),
    (936, 947, ("Food", "Vegetable")),
    (948, 957, ("Food", "Fruit")),
    (959, 965, ("Food", "Other")),
    (985, 986, ("Plant", "Flower")),
)
"""First and last class of a run, both included."""

_NAMES: dict[Kind, tuple[str, ...]] = {
    ("Vehicles", "Airplane"): ("airliner", "warplane"),
    ("Vehicles", "Car"): (
        "ambulance", "beach wagon", "cab", "convertible", "jeep", "limousine", "minivan",
        "Model T", "racer", "sports car", "police van", "minibus",
    ),
    ("Vehicles", "Truck"): (
        "fire engine", "garbage truck", "moving van", "pickup", "tow truck", "trailer truck",
    ),
    ("Vehicles", "Bus"): ("school bus", "trolleybus"),
    ("Vehicles", "Train"): (
        "bullet train", "electric locomotive", "freight car", "passenger car",
        "steam locomotive", "streetcar",
    ),
    ("Vehicles", "Ship"): (
        "aircraft carrier", "canoe", "catamaran", "container ship", "fireboat", "gondola",
        "lifeboat", "liner", "pirate", "schooner", "speedboat", "submarine", "trimaran", "yawl",
    ),
    ("Vehicles", "Motorcycle"): ("moped", "motor scooter"),
    ("Vehicles", "Bicycle"): ("bicycle-built-for-two", "mountain bike", "tricycle"),
    ("Sport", "Football"): ("soccer ball",),
    ("Sport", "Other"): (
        "basketball", "croquet ball", "golf ball", "parachute", "rugby ball", "ski",
        "tennis ball", "volleyball",
    ),
    ("Scenery", "Mountain"): ("alp", "volcano"),
    ("Scenery", "Cliff"): ("cliff",),
    ("Scenery", "Valley"): ("valley",),
    ("Scenery", "Lake"): ("lakeside",),
    ("Scenery", "Sea"): ("breakwater", "coral reef", "promontory", "sandbar", "seashore"),
    ("Scenery", "Other"): ("geyser",),
}  # fmt: skip


def kind_shares(classes: NDArray[np.float64]) -> dict[Kind, float]:
    """The probability of each kind, summed over its ImageNet classes (1000,); small ones too."""
    shares: dict[Kind, float] = {}
    for first, last, kind in _RUNS:
        shares[kind] = shares.get(kind, 0.0) + float(classes[first : last + 1].sum())
    for kind, names in _NAMES.items():
        shares[kind] = float(sum(classes[number] for number in _numbers(names)))
    return shares


@cache
def _numbers(names: tuple[str, ...]) -> tuple[int, ...]:
    lines = weight("efficientnet_labels.txt").read_text().splitlines()
    first = [line.split(",")[0] for line in lines]
    return tuple(first.index(name) for name in names)
