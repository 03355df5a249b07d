import gc
from itertools import count

import pytest

from toolkit.core import clock


class FakeTime:
    """A clock that only calls move: the n-th lasts `durations(n)` nanoseconds, half of it CPU."""

    def __init__(self, durations):
        self.durations, self.calls, self.wall, self.cpu = durations, 0, 0, 0

    def __call__(self):
        duration = self.durations(self.calls)
        self.calls += 1
        self.wall += duration
        self.cpu += duration // 2

    def perf_counter_ns(self):
        return self.wall

    def process_time_ns(self):
        return self.cpu


@pytest.fixture
def fake(monkeypatch):
    def install(durations):
        time = FakeTime(durations)
        monkeypatch.setattr(clock, "time", time)
        return time

    return install


MS = 1_000_000


def test_warm_up_ends_soon_after_the_medians_stop_moving(fake):
    call = fake(lambda n: 10 * MS if n >= 30 else (40 - n) * MS)
    warm = clock.warm_up(call, limit=10.0)
    assert warm.steady
    assert 30 < warm.calls < 45


def test_warm_up_gives_up_on_a_call_that_never_settles(fake):
    call = fake(lambda n: int(1.2 ** min(n, 80)) * MS)
    warm = clock.warm_up(call, limit=0.5)
    assert not warm.steady
    assert warm.nanoseconds >= 0.5e9


def test_warm_up_calls_a_slow_call_once(fake):
    call = fake(lambda n: 5000 * MS)
    assert clock.warm_up(call, limit=1.0).calls == 1


def test_a_slot_drops_its_first_call_and_fills_its_time(fake):
    call = fake(lambda n: 50 * MS if n == 0 else 10 * MS)
    slot = clock.take_slot(call, 0.15)
    assert slot.wall == (10 * MS,) * 10
    assert slot.cpu == (5 * MS,) * 10


def test_a_call_as_long_as_the_slot_is_kept(fake):
    call = fake(lambda n: 900 * MS)
    assert clock.take_slot(call, 0.15).wall == (900 * MS,)
    assert call.calls == 1


def test_the_collector_rests_during_a_slot_and_comes_back():
    seen = []
    numbers = count()

    def call():
        seen.append(gc.isenabled())
        if next(numbers) == 5:
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        clock.take_slot(call, 60.0)
    assert not any(seen)
    assert gc.isenabled()
