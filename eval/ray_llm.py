"""Our engines on Ray beside `ray.data.llm`: `python -m eval.ray_llm MODEL FILES...`.

The same model with the same options of vLLM on the same clips, sixteen frames, instruction, schema
and greedy decoding. Ours is what `caption --ray --engine vllm --no-split` does: actors decode and
hand JPEG to the engine's. Theirs is a function that decodes with decord before a
`vLLMEngineProcessor`, the only way in for video: its own stage for media does not start with a vLLM
that tells the model right times. Each runs in a process of its own with a Ray of its own; what is
told is seconds from the first clip asked for to the last answer (start of the engine included) and
the CPU-seconds of all processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner.engines.vllm import DECODING, ONE_VIDEO, VllmGenerator, VllmOptions
from captioner.engines.vlm import VlmEngine, answer_schema
from captioner.policies import FRAMES
from captioner.prompts import STRUCTURED

LONGEST, SUBJECTS = 16, 1
"""Bounds of the answers: a model of random weights fills them, and feeding is what is compared."""

RUNNING, CONTEXT = 16, 8192
MODEL = "EVAL_RAY_LLM_MODEL"


def engine() -> VlmEngine:
    """What our actor builds, in its own process; the model's folder comes by the environment."""
    options = VllmOptions(running=RUNNING, context=CONTEXT, eager=True)
    generator = VllmGenerator(os.environ[MODEL], options)
    return VlmEngine(generator, temperature=0.0, longest_string=LONGEST, most_subjects=SUBJECTS)


def ours(files: Sequence[Path]) -> int:
    """Caption by our pool; how many clips have a caption."""
    from captioner.engine_config import EngineConfig
    from curation.engine_ray import EnginePool, run_ray
    from curation.output import Output
    from curation.pipeline import gather, works
    from curation.rows import RowConfig
    from curation.scan import ScanConfig
    from curation.sources import Hashes, identify

    options = EngineConfig("eval.ray_llm:engine")
    config = RowConfig(ScanConfig(detector="none"), options.name, options=options)
    with tempfile.TemporaryDirectory() as folder:
        out = Output(Path(folder) / "out")
        todo = list(works(list(identify(files, Hashes(out.folder / "h").sha256)), config, out))
        list(gather(run_ray(todo, config, 1, pool=EnginePool(gpus=0)), todo, config, out))
        return sum(row.caption is not None for row in out.rows())


def theirs(files: Sequence[Path]) -> int:
    """Caption by a processor of ray.data.llm; how many clips have an answer that is JSON."""
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    settings = vLLMEngineProcessorConfig(
        model_source=os.environ[MODEL],
        engine_kwargs={
            "max_model_len": CONTEXT,
            "max_num_seqs": RUNNING,
            "enforce_eager": True,
            "kv_cache_memory_bytes": 1 << 28,
            "limit_mm_per_prompt": ONE_VIDEO,
            "structured_outputs_config": dict(DECODING),
        },
        concurrency=1,
        batch_size=RUNNING,
        placement_group_config={"bundle_per_worker": {"CPU": 1, "GPU": 0}},
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    processor: Any = build_processor(settings, preprocess=_asked, postprocess=_told)
    clips = ray.data.from_items([{"path": str(file)} for file in files])
    return sum(row["valid"] for row in processor(clips).iter_rows())


_PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    f"<|vision_start|><|video_pad|><|vision_end|>{STRUCTURED}<|im_end|>\n<|im_start|>assistant\n"
)


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    import decord
    import numpy as np

    size = {side: ONE_VIDEO["video"][side] for side in ("width", "height")}
    video = decord.VideoReader(row["path"], **size, num_threads=1)
    frames, fps = len(video), float(video.get_avg_fps())
    indices = np.linspace(0, frames - 1, FRAMES).round().astype(int)
    told = {
        "fps": fps,
        "total_num_frames": frames,
        "duration": frames / fps,
        "frames_indices": indices.tolist(),
        "video_backend": "decord",
        "do_sample_frames": False,
    }
    schema = json.dumps(answer_schema(LONGEST, SUBJECTS))
    return {
        "prompt": _PROMPT,
        "multimodal_data": {"video": [(video.get_batch(indices).asnumpy(), told)]},
        "sampling_params": {
            "temperature": 0,
            "max_tokens": 2000,
            "structured_outputs": {"json": schema},
        },
    }


def _told(row: dict[str, Any]) -> dict[str, Any]:
    try:
        json.loads(row["generated_text"])
    except ValueError:
        return {"valid": False}
    return {"valid": True}


def measure(way: str, files: Sequence[Path]) -> dict[str, Any]:
    """Run one of the two in this process; clips answered, seconds and CPU-seconds."""
    import psutil
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    here = psutil.Process()
    before, started = _cpu(here), time.monotonic()
    answered = {"ours": ours, "theirs": theirs}[way](files)
    seconds, cpu = time.monotonic() - started, _cpu(here) - before
    ray.shutdown()
    return {"way": way, "clips": len(files), "answered": answered, "s": seconds, "cpu_s": cpu}


def _cpu(process: Any) -> float:
    """CPU-seconds of a process and of all that come from it, those that have ended included."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:4]) for one in family if one.is_running())


def main(model: str, files: Sequence[str]) -> None:
    """Each way in turn, in a process of its own."""
    environment = {**os.environ, MODEL: model, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for way in ("ours", "theirs"):
        command = [sys.executable, "-m", "eval.ray_llm", "--one", way, *files]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(measure(sys.argv[2], [Path(file) for file in sys.argv[3:]])))
    else:
        main(sys.argv[1], sys.argv[2:])
