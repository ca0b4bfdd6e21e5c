"""Published settings, and what may be changed of them."""

from dataclasses import fields, replace
from typing import Any

import pytest

from generation.config import GenerationConfig, configure
from generation.frames import Forcing, GenerationOptionError


def test_the_published_settings() -> None:
    text, image = configure("t2v"), configure("i2v", "720p")
    assert (text.height, text.width, text.frames, text.fps) == (544, 960, 97, 24)
    assert (text.guidance, text.shift, text.steps, text.first_frame) == (6.0, 8.0, 50, False)
    assert (image.height, image.width, image.frames, image.fps) == (720, 1280, 121, 24)
    assert (image.guidance, image.shift, image.first_frame) == (5.0, 5.0, True)
    forcing = configure("df", "720p", {"ar_step": 5, "causal_block": None})
    assert forcing.forcing == Forcing(base_frames=121, ar_step=5)
    assert configure("df", first_frame=True).guidance == 5.0


def test_a_preset_that_is_changed_is_ones_own() -> None:
    assert configure("t2v", frames=97).preset == "540p"
    assert configure("t2v", frames=101).preset == "own"
    assert configure("t2v", guidance=2.0).preset == "540p"


OTHER: dict[str, Any] = {
    "task": "i2v",
    "preset": "own",
    "height": 528,
    "width": 944,
    "frames": 93,
    "fps": 16,
    "steps": 30,
    "guidance": 1.0,
    "shift": 3.0,
    "negative_prompt": "",
    "max_tokens": 226,
    "truncate": True,
    "dtype": "float32",
    "tiling": True,
    "first_frame": True,
    "last_frame": True,
    "forcing": Forcing(addnoise=0),
}


def test_every_setting_is_in_the_hash() -> None:
    base = GenerationConfig("df", forcing=Forcing(), first_frame=True)
    start = {"first_frame": replace(base, first_frame=False), "task": GenerationConfig("t2v")}
    seen = {base.hash(), base.hash(enhance="1")}
    for field in fields(GenerationConfig):
        before = start.get(field.name, base)
        change = {field.name: OTHER[field.name]}
        assert replace(before, **change).hash() != before.hash(), field.name
        seen.add(replace(before, **change).hash())
    assert len(seen) >= len(OTHER)


def test_a_models_own_block_is_checked_as_the_users() -> None:
    config = configure("df", frames=93)
    assert config.with_block(2).of_forcing.causal_block == 2
    with pytest.raises(GenerationOptionError, match="24 latent frames, no multiple of the causal"):
        config.with_block(5)
    assert configure("df", forcing={"causal_block": 3}, frames=93).with_block(5) == configure(
        "df", forcing={"causal_block": 3}, frames=93
    )
    assert configure("t2v", frames=93).with_block(5).forcing is None


@pytest.mark.parametrize(
    ("task", "changed", "says"),
    [
        ("v2v", {}, "task 'v2v' is none of"),
        ("t2v", {"preset": "4k"}, "preset '4k' is none of 540p, 720p"),
        ("t2v", {"dtype": "int8"}, "dtype 'int8' is none of"),
        ("t2v", {"frames": 96}, "ask for 97"),
        ("t2v", {"steps": 0}, "steps 0 is below 1"),
        ("t2v", {"fps": 0}, "fps 0 is not within"),
        ("t2v", {"shift": 0.0}, "not within 0 to 100"),
        ("t2v", {"guidance": float("nan")}, "not within 0 to 100"),
        ("t2v", {"forcing": {"overlap": 17}}, "overlap: windows and blocks are for"),
        ("t2v", {"first_frame": True}, "text to video takes no frame"),
        ("df", {"last_frame": True}, "given beside a first one"),
    ],
)
def test_what_cannot_be_is_told(task: Any, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationOptionError, match=says):
        configure(task, **changed)
