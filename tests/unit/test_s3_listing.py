"""The sample of a listing, and threads that work on it."""

from collections.abc import Iterator

from core.operations.s3_listing import ReservoirSample, in_threads


def test_a_reservoir_sample_is_uniform() -> None:
    held = [0] * 20
    for seed in range(2000):
        sample = ReservoirSample(5, seed)
        for number in range(20):
            sample.offer(str(number))
        assert (len(sample.items), sample.seen) == (5, 20)
        for item in sample.items:
            held[int(item)] += 1
    # 500 each; four standard deviations of a binomial are 78.
    assert all(abs(count - 500) < 78 for count in held)


def test_threads_keep_the_order_and_read_ahead_a_bounded_number_of_items() -> None:
    begun = 0

    def items() -> Iterator[int]:
        nonlocal begun
        for number in range(10_000):
            begun += 1
            yield number

    answers = in_threads(lambda number: number * 2, items())
    assert [next(answers) for _ in range(3)] == [0, 2, 4]
    assert begun < 100
