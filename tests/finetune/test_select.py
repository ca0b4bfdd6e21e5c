"""The best checkpoint on the validation split, chosen with the engine that production uses."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("trl")

from captioner.engines.checkpoint import INTERFACE, interface
from eval.overfit import Example, overfit
from finetune.frames import prepare
from finetune.recipe import Override, read_recipe
from finetune.select import SelectionError, choose, in_words, merged
from finetune.sft import REPORT, WHOLE, train
from finetune.targets import Target, answer, read_targets, write_targets
from tests.finetune.conftest import few


@pytest.fixture(scope="module")
def validation(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with unlike answers."""
    targets = read_targets(labels, "validation")
    first = targets[0]
    other = next(t for t in targets if t.caption.camera_motion != first.caption.camera_motion)
    folder = tmp_path_factory.mktemp("validation") / "labels"
    write_targets(folder, [_absolute(one, labels) for one in (first, other)])
    return folder


def _absolute(target: Target, labels: Path) -> Target:
    return target.model_copy(update={"video": str((labels / target.video).resolve())})


@pytest.fixture
def out(validation: Path, tmp_path: Path) -> Path:
    """Checkpoints that were taught each clip's answer, the other clip's answer, and nothing."""
    targets = read_targets(validation, "validation")
    clips = prepare(targets, validation, tmp_path / "frames", "native")
    videos = [clips.video(one.clip_id) for one in targets]
    answers = [answer(one) for one in targets]
    for step, taught in ((2, answers[::-1]), (4, answers)):
        checkpoint = tmp_path / f"checkpoint-{step}"
        overfit(checkpoint, [Example(v, a) for v, a in zip(videos, taught)])
        _finish(checkpoint)
    (tmp_path / "checkpoint-6").mkdir()
    _finish(tmp_path / "checkpoint-6")
    course = {"losses": [[1, 7.0], [6, 5.0]], "validation": [], "skipped": [], "checkpoints": []}
    spent = {"seconds": 1.0, "cpu_seconds": 1.0, "tokens_per_second": 9.0, "peak_bytes": 10**9}
    (tmp_path / REPORT).write_text(json.dumps({**course, **spent}))
    return tmp_path


def _finish(checkpoint: Path) -> None:
    recipe = read_recipe("tiny-cpu").model_dump(mode="json")
    (checkpoint / WHOLE).write_text(json.dumps({"recipe": recipe}))
    (checkpoint / INTERFACE).write_text(json.dumps(interface("native")))


def test_the_one_that_knows_the_answers_is_chosen(
    out: Path, validation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.trial.WIDTH", 1)  # one waits while the other is asked
    choice = choose(out, validation, "transformers")

    assert choice.best.checkpoint == "checkpoint-4"
    assert choice.best.accuracy == 1.0
    told = json.loads((out / "choice.json").read_text())
    assert [one["checkpoint"] for one in told["trials"]] == [f"checkpoint-{n}" for n in (2, 4, 6)]
    assert told["trials"][0]["fields"]["camera_motion"][:2] == [0, 2]
    assert told["trials"][1]["fields"]["camera_motion"][:2] == [2, 2]
    assert "checkpoint-6" in told["trials"][2]["error"]
    assert told["difference"]["value"] > 0
    assert f"best: checkpoint-4, now {out / 'best'}" in in_words(choice)[-1]
    weights = (out / "best" / "model.safetensors").read_bytes()
    assert weights == (out / "checkpoint-4" / "model.safetensors").read_bytes()
    assert not (out / "best" / WHOLE).exists()
    assert "checkpoint-4" in (out / "best" / "README.md").read_text()

    _nothing_is_asked_twice(out, validation)


def _nothing_is_asked_twice(out: Path, validation: Path) -> None:
    kept = out / "validation" / "checkpoint-4.transformers.jsonl"
    whole = kept.read_bytes()
    shutil.rmtree(out / "best")
    (out / "checkpoint-4" / "model.safetensors").rename(out / "weights")
    (out / "checkpoint-4" / "model.safetensors").write_bytes(b"cannot be loaded")

    assert choose(out, validation, "transformers").best.checkpoint == "checkpoint-4"
    assert kept.read_bytes() == whole
    assert (out / "best").is_dir()


def test_without_a_checkpoint_or_targets_a_line_says_what_to_do(
    labels: Path, tmp_path: Path
) -> None:
    with pytest.raises(SelectionError, match="has no whole checkpoint: train first"):
        choose(tmp_path, labels)
    (tmp_path / "checkpoint-1").mkdir()
    _finish(tmp_path / "checkpoint-1")
    with pytest.raises(SelectionError, match="has not ended: give its command again"):
        choose(tmp_path, labels)
    (tmp_path / REPORT).write_text("{}")
    write_targets(tmp_path / "none", [])
    with pytest.raises(SelectionError, match="no validation targets: give some with --split"):
        choose(tmp_path, tmp_path / "none")


def test_merged_adapters_answer_as_adapters_do(
    tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    given = (f"model={tiny_model}", "method=lora", "epochs=1", "global_batch=2", "micro_batch=2")
    recipe = read_recipe("tiny-cpu", tuple(map(Override.of, (*given, "learning_rate=0.02"))))
    checkpoint = train(recipe, few(labels, 4, tmp_path / "few"), tmp_path).checkpoints[-1]

    whole = merged(checkpoint, recipe)

    def says(model: object) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(input_ids=torch.arange(40)[None]).logits  # type: ignore[operator]
        return found

    base = AutoModelForImageTextToText.from_pretrained(tiny_model)
    start = says(base)
    adapted = says(PeftModel.from_pretrained(base, str(checkpoint)).eval())
    together = says(AutoModelForImageTextToText.from_pretrained(whole).eval())
    assert (start - adapted).abs().max() > 1e-3  # the adapters say something
    assert torch.allclose(adapted, together, atol=1e-5)
    assert (whole / INTERFACE).is_file()
