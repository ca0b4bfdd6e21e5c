"""The rules of frames and windows against a slow simulation of what the reference does."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.frames import (
    Forcing,
    GenerationOptionError,
    Window,
    check_count,
    check_forcing,
    check_size,
    latent_frames,
    windows,
)

STEPS = 4


@dataclass(frozen=True)
class Seen:
    """What came out: frames, the windows, and whether all went as it should."""

    frames: int
    windows: tuple[Window, ...]
    sound: bool


def updates(latents: int, known: int, forcing: Forcing) -> list[int]:
    """How often each latent frame of a window is denoised, block after block."""
    block = forcing.causal_block or 1
    end = STEPS + 1
    state = [end if i < known // block else 0 for i in range(latents // block)]
    counts = [0] * len(state)
    while any(at < STEPS for at in state):
        row: list[int] = []
        for i, at in enumerate(state):
            free = i == 0 or state[i - 1] >= STEPS
            row.append(min(end, max(0, at + 1 if free else row[i - 1] - forcing.ar_step)))
        for i, (at, before) in enumerate(zip(row, state)):
            counts[i] += at not in (before, end)
        state = row
    seen = [count for count in counts for _ in range(block)]
    return seen + [0] * (latents - len(seen))


def simulate(frames: int, forcing: Forcing, first: bool) -> Seen:
    """diffusion_forcing_pipeline.py of SkyReels-V2 in plain loops, frames counted in pixels."""
    block = forcing.causal_block or 1
    total = latent_frames(frames)
    base, overlap = latent_frames(forcing.base_frames), latent_frames(forcing.overlap)
    if frames <= forcing.base_frames:
        shapes = [(total, int(first), int(first))]
    elif overlap >= base:
        return Seen(0, (), False)
    else:
        shapes = [(base, int(first), int(first))]
        for i in range(1, 2 + (total - base - 1) // (base - overlap)):
            left = total - (i * (base - overlap) + overlap)
            shapes.append((min(left + overlap, base), overlap, overlap - overlap % block))
    out, sound = 0, True
    for i, (latents, known, aligned) in enumerate(shapes):
        out += (latents - 1) * 4 + 1 - (forcing.overlap if i else 0)
        counts = updates(latents, aligned, forcing)
        sound &= counts == [0] * known + [STEPS] * (latents - known)
    if len(shapes) > 1:
        sound &= (base - 1) * 4 + 1 == forcing.base_frames
    found = tuple(Window(n, known if i else 0) for i, (n, known, _) in enumerate(shapes))
    return Seen(out, found, sound and out == frames)


def check_all(frames: int, forcing: Forcing, first: bool, last: bool) -> None:
    check_count("frames", frames)
    check_forcing(frames, forcing, first, last)


def allowed(frames: int, forcing: Forcing, first: bool) -> bool:
    try:
        check_all(frames, forcing, first, last=False)
    except GenerationOptionError:
        return False
    return True


def counts(most: int) -> st.SearchStrategy[int]:
    """Mostly 1 more than a multiple of 4, where little else is possible."""
    return st.one_of(st.integers(1, most // 4).map(lambda k: 4 * k + 1), st.integers(5, most))


@settings(max_examples=500)
@given(
    frames=counts(300),
    base=counts(120),
    overlap=st.just(1) | counts(60),
    ar_step=st.integers(0, 6),
    block=st.sampled_from([None, 1, 2, 3, 5]),
    first=st.booleans(),
)
def test_allowed_is_just_what_the_reference_makes_whole(
    frames: int, base: int, overlap: int, ar_step: int, block: int | None, first: bool
) -> None:
    forcing = Forcing(base, overlap, ar_step, block)
    seen = simulate(frames, forcing, first)
    assert allowed(frames, forcing, first) == seen.sound
    if seen.sound:
        assert tuple(windows(frames, forcing)) == seen.windows


@given(
    block=st.integers(1, 5),
    overlap=st.integers(1, 3),
    new=st.integers(1, 4),
    more=st.integers(0, 9),
    ar_step=st.integers(0, 6),
)
def test_whole_blocks_are_allowed(
    block: int, overlap: int, new: int, more: int, ar_step: int
) -> None:
    def frames_of(blocks: int) -> int:
        return (blocks * block - 1) * 4 + 1

    base, frames = frames_of(overlap + new), frames_of(overlap + new + more)
    forcing = Forcing(base, frames_of(overlap), ar_step, block)
    if frames >= 5:
        assert simulate(frames, forcing, first=False).sound
        assert allowed(frames, forcing, first=False)


@pytest.mark.parametrize("frames", [97, 257, 377, 737, 1457])
@pytest.mark.parametrize("forcing", [Forcing(), Forcing(ar_step=5, causal_block=5)])
def test_the_published_lengths_are_allowed(frames: int, forcing: Forcing) -> None:
    assert allowed(frames, forcing, first=False)


def test_the_example_of_the_readme() -> None:
    # "(237-97-(97-17)x1+17-1)//4+1=20 for base_num_frames=97, num_frames=237, overlap_history=17"
    assert windows(237, Forcing()) == [Window(25, 0), Window(25, 5), Window(20, 5)]


@pytest.mark.parametrize(
    ("frames", "change", "first", "last", "says"),
    [
        (100, {}, False, False, "frames 100 is not 1 more than a multiple of 4: ask for 101"),
        (257, {"overlap": 16}, False, False, "overlap 16 is not 1 more than a multiple of 4"),
        (257, {"overlap": 97}, False, False, "leaves nothing new in windows of 97"),
        (257, {"causal_block": 3}, False, False, "65 latent frames, no multiple of the causal"),
        (
            97,
            {"causal_block": 5},
            True,
            False,
            "in causal blocks of 5 the model takes it for noise",
        ),
        (257, {}, True, True, "a last frame can be given to a video of one window"),
        (97, {"ar_step": -1}, False, False, "ar step -1 is below 0"),
        (97, {"causal_block": 0}, False, False, "causal block 0 is below 1"),
        (97, {"addnoise": 61}, False, False, "addnoise 61 is not within 0 to 60"),
    ],
)
def test_what_is_not_allowed_is_told(
    frames: int, change: dict[str, int], first: bool, last: bool, says: str
) -> None:
    forcing = replace(Forcing(), **change)
    with pytest.raises(GenerationOptionError, match=says):
        check_all(frames, forcing, first, last)


def test_the_frames_that_are_proposed_are_allowed() -> None:
    for frames in range(-3, 60):
        try:
            check_count("frames", frames)
        except GenerationOptionError as error:
            check_count("frames", int(str(error).split()[-1]))


def test_pixels_make_whole_tokens() -> None:
    check_size(544, 960)
    with pytest.raises(GenerationOptionError, match="height 540 is no multiple of 16: ask for 544"):
        check_size(540, 960)
    with pytest.raises(GenerationOptionError, match="width 0"):
        check_size(16, 0)
