"""Frames to the bytes of an MP4, and one to those of a PNG: the same each time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from curation.clips import REPEATABLE, ClipConfig
from generation.model import Rgb

_BT709 = 1
"""AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic in libavutil/pixfmt.h."""


def encode(frames: Rgb, fps: float, config: ClipConfig | None = None) -> bytes:
    """An H.264 MP4 of (N, H, W, 3) RGB, by the clip writer's settings; an odd side loses a pixel.

    Raises av.FFmpegError.
    """
    config = config or ClipConfig()
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        options = {"crf": str(config.crf), "preset": config.preset, **REPEATABLE}
        rate = Fraction(fps).limit_denominator(1001)
        stream = output.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = stream.time_base = 1 / rate
        context.thread_count = config.threads
        # Players guess by the size where a file does not say.
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        for at, rgb in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(rgb[:height, :width]), format="rgb24"
            ).reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            picture.pts, picture.time_base = at, 1 / rate
            packets: Sequence[av.Packet[av.VideoStream]] = stream.encode(picture)
            output.mux(packets)
        output.mux(stream.encode(None))
    return file.getvalue()


def png(rgb: Rgb) -> bytes:
    """The PNG of an (H, W, 3) RGB picture."""
    _, file = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return file.tobytes()
