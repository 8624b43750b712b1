"""`--rate` holds from the first second on, and after a pause."""

from __future__ import annotations

from devicevault_cli.operations.rate_limit import RateLimiter


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_in_no_second_more_than_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(100, clock)
    done: list[tuple[float, int]] = []
    for _ in range(40):
        messages = limiter.at_once(1000)
        done.append((clock.now, messages))
        clock.now += limiter.after(messages)
        if len(done) == 20:
            clock.now += 60
    assert sum(messages for _, messages in done) == 1000
    for start, _ in done:
        assert sum(messages for at, messages in done if start <= at < start + 1) <= 100


def test_a_slow_rate_waits_after_each_message() -> None:
    limiter = RateLimiter(0.5, Clock())
    assert limiter.at_once(1000) == 1
    assert [limiter.after(1), limiter.after(1)] == [2.0, 4.0]


def test_without_a_rate_nothing_waits() -> None:
    limiter = RateLimiter(None)
    assert (limiter.at_once(1000), limiter.after(1000)) == (1000, 0.0)
