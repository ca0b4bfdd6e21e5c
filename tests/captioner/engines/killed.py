"""Run by test_vllm: kills vLLM's engine process while four requests run and eight wait.

Prints the `finish` and `error` of each as JSON.
"""

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Iterator

from captioner.engines.vllm import VllmGenerator, VllmOptions
from captioner.engines.vlm import Request
from captioner.policies import native
from tests.captioner.engines.conftest import clip

PATIENCE = 230.0
"""Seconds after which it tells where it waits, and ends."""


def main(model: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    options = VllmOptions(dtype="float32", running=8, eager=True, context=8192)
    generator = VllmGenerator(model, options)
    video = native(clip())

    def requests() -> Iterator[tuple[int, Request]]:
        for i in range(12):
            if i == 4:
                manager = generator._engine.engine_core.resources.engine_manager
                for process in manager.processes:
                    os.kill(process.pid, signal.SIGKILL)
            yield i, Request("Describe.", video, None, 1.0, 2000 if i < 4 else 4)

    answers = dict(generator.stream(requests()))
    generator.close()
    print(json.dumps([(answers[i].finish, answers[i].error) for i in sorted(answers)]))


if __name__ == "__main__":
    main(sys.argv[1])
