import pytest

from toolkit.nn.masked import MaskedConv2d
from toolkit.schedules._wave import Wave, lag, least_skew, past

SHAPES = [(1, 1), (1, 6), (6, 1), (5, 9), (9, 5), (8, 8)]


@pytest.mark.parametrize(
    ("first", "kernel", "skew"), [(7, 3, 4), (5, 3, 3), (3, 3, 2), (3, 5, 3), (3, 7, 4), (1, 1, 1)]
)
def test_skew_follows_from_the_live_taps(first, kernel, skew):
    taps = MaskedConv2d("A", 1, 1, first).taps() + MaskedConv2d("B", 1, 1, kernel).taps()
    found = least_skew(past(taps))
    assert found == skew
    assert all(lag(tap, found) >= 1 for tap in past(taps))
    assert found == 1 or any(lag(tap, found - 1) < 1 for tap in past(taps))


def test_published_setting_takes_136_steps_of_7_rows():
    wave = Wave(28, 28, least_skew(MaskedConv2d("A", 1, 1, 7).taps()))
    assert (wave.skew, wave.steps, wave.slots) == (4, 136, 7)


@pytest.mark.parametrize("skew", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_every_pixel_has_a_place_of_its_own(height, width, skew):
    wave = Wave(height, width, skew)
    places = wave.places()
    assert len(set(places.tolist())) == height * width
    assert wave.pixels().flatten()[places].tolist() == list(range(height * width))


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_reads_find_the_pixels_that_the_taps_name(height, width, kernel):
    taps = MaskedConv2d("A", 1, 1, kernel).taps()
    wave = Wave(height, width, least_skew(taps))
    reads, places = wave.reads(taps), wave.places().reshape(height, width)
    for row in range(height):
        for column in range(width):
            step, slot = divmod(int(places[row, column]), wave.slots)
            for (dy, dx), entry in zip(taps, reads[step, slot].tolist(), strict=True):
                if row + dy >= 0 and 0 <= column + dx < width:
                    steps_before, source = divmod(entry - 1, wave.slots)
                    place = (step - 1 - steps_before) * wave.slots + source
                    assert place == places[row + dy, column + dx]
                else:
                    assert entry == 0
