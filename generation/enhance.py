"""Prompts told anew by a language model before they are generated.

A dataset's caption is already in the form that the model was trained on; enhancement is for
captions that are short (the `experts` engine's, or I2V's). What the caption says must stay, for the
video is scored by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.engines.vlm import Generation, Generator, Request
from generation.model import GenerationError

INSTRUCTION = """\
Below is a description of one video shot. Write it anew as a prompt for a video-generation model.

Rules:
1. Keep every fact: the subjects, what each does, how the shot is framed, and how the camera \
moves. Contradict none, and add no further subject, action, cut or camera motion.
2. Where the description is short, add plausible visible detail that fits it: colours, materials, \
background, light.
3. Order: the shot's size and angle, the subjects and what they do, the surroundings, the light, \
and last the camera motion in the words of the description.
4. One paragraph in English, 60 to 150 words. No heading, no list, no quotation marks, no comment.

Description:
{prompt}

Prompt:"""

VERSION = "1"
"""Raised when the instruction changes, or what is taken from an answer."""

TEMPERATURE = 0.3
"""Own choice: the wording may vary, the facts may not."""

MAX_TOKENS = 400
"""Of an answer: 150 words are about 200 tokens, and the text encoder takes 512."""


@dataclass(frozen=True)
class Enhancer:
    """Tells prompts anew by any text generator, such as `captioner.engines.server.connect`."""

    generator: Generator

    def enhance(self, prompts: Sequence[str]) -> list[str | GenerationError]:
        """For each prompt a longer one, or why there is none."""
        requests = [
            Request(INSTRUCTION.replace("{prompt}", text), None, None, TEMPERATURE, MAX_TOKENS)
            for text in prompts
        ]
        return [_answer(one) for one in self.generator.generate(requests)]

    def identity(self) -> dict[str, str]:
        """What the prompts depend on, for the hash of the configuration."""
        by = {f"enhance_by_{name}": value for name, value in self.generator.identity().items()}
        return {"enhance_version": VERSION, **by}


def _answer(answer: Generation) -> str | GenerationError:
    text = " ".join(answer.text.split()).strip('"')
    if answer.finish == "error":
        return GenerationError(f"the prompt was not enhanced: {answer.error or 'no reason given'}")
    if answer.finish == "length":
        return GenerationError(
            f"the prompt was not enhanced: the model came to no end in {MAX_TOKENS} tokens"
        )
    return text or GenerationError("the prompt was not enhanced: the model said nothing")
