import sys

import pytest

from eval.speed import compare, usage_of

BURN = "x = 0\nfor i in range({}): x += i"


def test_usage_is_that_of_the_command() -> None:
    idle = usage_of([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert idle.wall >= 0.5
    assert idle.cpu < 0.4
    large = usage_of([sys.executable, "-c", "x = bytearray(200 << 20)"])
    assert 200 < large.peak < 300
    assert idle.peak < 100


def test_the_ratio_is_ours_to_the_peers() -> None:
    command = [sys.executable, "-c"]
    ours, peer, ratio = compare(
        [*command, BURN.format(2_000_000)], [*command, BURN.format(20_000_000)], runs=1
    )
    assert ours.cpu < peer.cpu
    assert ratio == pytest.approx(ours.cpu / peer.cpu)


def test_a_failing_command_is_told() -> None:
    with pytest.raises(RuntimeError, match="no such option"):
        usage_of([sys.executable, "-c", "raise SystemExit('no such option')"])
