"""The number of requests side by side: halved, grown, and lent by those that hang."""

from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.intake.places import Places


def filled(places: Places, now_s: float) -> list[int]:
    taken = []
    while places.free(now_s):
        taken.append(places.enter(now_s))
    return taken


def test_halved_once_per_round() -> None:
    """Eight that fail together halve once; those that began after that halve again; one is always left."""
    places = Places(8, 64)
    for expected, now_s in ((4, 0.0), (2, 1.0), (1, 2.0), (1, 3.0)):
        taken = filled(places, now_s)
        for one in taken:
            places.shrink(one, now_s + 0.5)
            places.leave(one)
        assert places.limit == expected


def test_one_more_after_a_full_round() -> None:
    places = Places(4, 64)
    for now_s in range(4):
        one, *others = filled(places, float(now_s))
        places.grow(one, now_s + 0.1)
        for place in (one, *others):
            places.leave(place)
    assert 4.9 < places.limit <= 5


def test_room_that_is_not_used_does_not_grow() -> None:
    places = Places(8, 64)
    one = places.enter(0)
    places.grow(one, 0.1)
    assert places.limit == 8


def test_a_hanging_request_lends_its_place() -> None:
    """Not before four times the usual time, nor before a second; and never beyond the most."""
    places = Places(2, 4)
    one = places.enter(0)
    places.grow(one, 0.5)
    places.leave(one)
    places.limit = 2.0
    assert len(filled(places, 10)) == 2
    assert filled(places, 11.9) == []
    assert len(filled(places, 12.1)) == 2
    assert filled(places, 100) == []


def test_nothing_is_lent_before_the_first_answer() -> None:
    places = Places(2, 64)
    assert len(filled(places, 0)) == 2
    assert filled(places, 1000) == []


@given(st.lists(st.tuples(st.sampled_from(["enter", "grow", "shrink"]), st.floats(0, 3)), max_size=150), st.integers(1, 80))
def test_bounds(events: list[tuple[str, float]], start: int) -> None:
    places, taken, now_s = Places(start, 64), [], 0.0
    for event, pause_s in events:
        now_s += pause_s
        if event == "enter" and places.free(now_s):
            taken.append(places.enter(now_s))
        elif event != "enter" and taken:
            getattr(places, event)(taken[0], now_s)
            places.leave(taken.pop(0))
        assert 1 <= places.limit <= 64
        assert places.taken == len(taken) <= 64
