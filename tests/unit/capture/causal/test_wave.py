import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.prove import prove_wave
from toolkit.capture.causal.wave.derive import derive_wave
from toolkit.capture.causal.wave.geometry import Place, Rect, Wave
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.nn.masked import MaskedConv2d

LEVELS = 3
SHAPES = [(1, 1), (1, 6), (6, 1), (5, 9), (9, 5), (8, 8)]


def sampler(height=5, width=7, context=()):
    x = Input("x", torch.zeros(2, 1, height, width), ("batch", None, None, None))
    return Autoregressive(
        "sample", "forward", x, "raster", LEVELS, 1, lambda level: level - 1, context=context
    )


def wave(height, width, skew):
    slots = min(height, -(-width // skew))
    return Wave(skew, slots, 0, width + (height - 1) * skew), Place(0, Rect(0, 0, height, width))


class Net(nn.Module):
    """A masked convolution, what a test puts behind it, and a head."""

    def __init__(self, *middle, kernel=3, channels=4, out=4):
        super().__init__()
        torch.manual_seed(0)
        self.first = MaskedConv2d("A", 1, channels, kernel)
        self.middle, self.head = nn.Sequential(*middle), nn.Conv2d(out, LEVELS, 1)

    def forward(self, x, *context):
        h = self.first(x)
        for item in context:
            h = h + item
        return 4 * self.head(self.middle(h))


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("skew", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_every_pixel_has_a_place_of_its_own(height, width, skew):
    steps, place = wave(height, width, skew)
    places = steps.places(place)
    assert len(set(places.tolist())) == height * width
    entries = steps.entries(place, place.rect).flatten()
    assert entries[places].tolist() == list(range(height * width))


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_reads_find_the_pixels_that_the_taps_name(height, width, kernel):
    taps = MaskedConv2d("A", 1, 1, kernel).taps()
    steps, place = wave(height, width, kernel // 2 + 1)
    lags = max(steps.lag(place, place, tap) for tap in taps)
    reads, writes = steps.reads(place, place, taps, (1, 2), lags), steps.writes(lags)
    assert writes.min() == 1
    places = steps.places(place).reshape(height, width)
    for row in range(height):
        for column in range(width):
            step, slot = divmod(int(places[row, column]), steps.slots)
            for (dy, dx), entry in zip(taps, reads[step, slot].tolist(), strict=True):
                if row + dy >= 0 and 0 <= column + dx < width:
                    place_before, inside = divmod(entry, 2 * steps.slots)
                    source, member = divmod(inside, 2)
                    last = int((writes[:step] == place_before).nonzero().max())
                    found = last * steps.slots + source
                    assert (found, member) == (places[row + dy, column + dx], 1)
                else:
                    assert entry == 0


@pytest.mark.parametrize(
    ("first", "kernel", "skew"), [(7, 3, 4), (5, 3, 3), (3, 3, 2), (3, 5, 3), (3, 7, 3)]
)
def test_skew_follows_from_the_live_taps(first, kernel, skew):
    net = Net(MaskedConv2d("B", 4, 4, kernel), kernel=first)
    assert derive_wave(net, sampler(width=9)).wave.skew == skew


def test_published_setting_takes_136_steps_of_7_rows():
    found = derive_wave(Net(MaskedConv2d("B", 4, 4, 3), kernel=7), sampler(28, 28)).wave
    assert (found.skew, found.steps, found.slots) == (4, 136, 7)


MIDDLES = {
    "batch norm": [nn.BatchNorm2d(4), nn.ELU(), MaskedConv2d("B", 4, 4, 3)],
    "padding": [Call(lambda h: F.pad(F.relu(h + 1), (1, 0, 1, 0))), nn.Conv2d(4, 4, 2)],
    "acts on padding": [Call(lambda h: F.pad(h, (1, 0, 1, 0)) + 1), nn.Conv2d(4, 4, 2)],
    "shift": [Call(lambda h: h + F.pad(h, (1, 0, 1, 0))[:, :, :-1, :-1])],
    "channels last": [
        Call(lambda h: h.permute(0, 2, 3, 1)),
        nn.LayerNorm(4),
        nn.Linear(4, 4),
        Call(lambda h: h.softmax(-1).movedim(3, 1)),
    ],
    "channels": [
        Call(lambda h: torch.cat([h[:, :2].tanh(), h.chunk(2, 1)[1], h.mean(1, keepdim=True)], 1)),
        nn.Conv2d(5, 4, 1),
    ],
    "views": [
        Call(lambda h: h.view(h.shape[0], 2, 2, *h.shape[2:]).sum(2)),
        Call(lambda h: h.unsqueeze(1).expand(-1, 2, -1, -1, -1).flatten(1, 2)),
    ],
    "table": [Call(lambda h: h + torch.linspace(-1, 1, 35).reshape(5, 7))],
    "looks far right in its row": [
        nn.Conv2d(4, 4, (3, 5), padding=(1, 2)),
        Call(lambda h: F.pad(h, (0, 0, 2, 0))[:, :, :-2]),
    ],
    "looks right in its row": [
        nn.Conv2d(4, 4, 3, padding=1),
        Call(lambda h: F.pad(h, (0, 0, 2, 0))[:, :, :-2]),
    ],
}


@pytest.mark.parametrize("middle", MIDDLES)
def test_a_step_gives_the_whole_forward(middle):
    net = Net(*MIDDLES[middle]).eval()
    prove_wave(net, sampler(), derive_wave(net, sampler()))


def test_conditions_on_one_value_per_item_and_on_a_picture():
    context = [
        Input("label", torch.randn(2, 4, 1, 1), ("batch", None, None, None)),
        Input("mask", torch.randn(2, 4, 5, 7), ("batch", None, None, None)),
    ]
    net, declared = Net(MaskedConv2d("B", 4, 4, 3)), sampler(context=context)
    derived = derive_wave(net, declared)
    assert derived.known == (1, 1)
    prove_wave(net, declared, derived)


def test_a_dropped_tap_is_noticed():
    net = Net(MaskedConv2d("B", 4, 4, 3))
    derived = derive_wave(net, sampler())
    derived.reads[0][:, 0] = 0
    with pytest.raises(ExportError, match="differs from the whole forward"):
        prove_wave(net, sampler(), derived)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        ([nn.Conv2d(4, 4, 3, padding=1)], "later pixels"),
        ([nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)], "no rule"),
        ([nn.Conv2d(4, 4, 3, padding=1, groups=2)], "grouped"),
        ([Call(lambda h: h - h.mean((2, 3), keepdim=True))], "mixes pixels"),
        ([Call(lambda h: F.pad(h, (1, 1, 1, 1), "replicate")), nn.Conv2d(4, 4, 3)], "pads with"),
        ([Call(lambda h: h.flatten(2).view(h.shape))], "mixes pixels"),
    ],
)
def test_refuses_with_the_reason(middle, reason):
    with pytest.raises(Refusal, match=reason):
        derive_wave(Net(*middle).eval(), sampler())


def test_refuses_a_first_layer_that_reads_its_own_pixel():
    net = Net()
    net.first = MaskedConv2d("B", 1, 4, 3)
    with pytest.raises(Refusal, match="the pixel itself"):
        derive_wave(net, sampler())
