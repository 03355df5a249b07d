"""Deep Q network: the value of every move in a state that is seen as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._vision import Size, pictures, side
from toolkit.nn.target import Target

# Channels, side of the kernel, stride and padding.
Layer = tuple[int, int, int, int]
FULL: tuple[Layer, ...] = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))


class DQN(nn.Module):
    """Estimate the discounted return of every action, and act by the largest.

    A slow copy of the network, the target, says what a state is worth while the network is
    trained; no entry holds it.

    Arguments:
        channels: Channels of a state.
        size: Height and width of a state; `full` is the published network, for four frames of
            84x84, and then `channels`, `layers` and `hidden` do not count.
        actions: Number of actions.
        layers: Channels, kernel, stride and padding of every convolution.
        hidden: Features of the hidden linear layer.
        discount: What a reward is worth one step later, 0 to 1.
        rate: Share of the way to the network that the target goes with every training step.
        double: Whether the network picks the next action whose value the target gives.

    Raises:
        UsageError: The layers leave no pixel, or a number is out of range.

    References:
        Human-level control through deep reinforcement learning, Mnih et al., Nature 518 (2015),
        529-533; Playing Atari with Deep Reinforcement Learning, arXiv 1312.5602.
        Deep Reinforcement Learning with Double Q-learning, arXiv 1509.06461.
    """

    family: ClassVar[str] = "policy"

    def __init__(
        self,
        *,
        channels: int = 3,
        size: Size = 5,
        actions: int = 4,
        layers: Sequence[Layer] = ((32, 3, 1, 1), (64, 3, 1, 1)),
        hidden: int = 256,
        discount: float = 0.8,
        rate: float = 0.03,
        double: bool = False,
    ) -> None:
        if size == "full":
            channels, layers, hidden = 4, FULL, 512
        pixels = left = side(size, full=84)
        for _, kernel, stride, padding in layers:
            left = (left + 2 * padding - kernel) // stride + 1
        if left < 1 or actions < 2 or not 0 <= discount <= 1 or not 0 < rate <= 1:
            raise UsageError(
                f"dqn(size={size!r}, layers={layers}, actions={actions}, discount={discount}, "
                f"rate={rate}) is out of range",
                where="[model] of the recipe",
                next_step="the layers leave a pixel, actions are 2 or more, discount is 0 to 1 "
                "and rate above 0 to 1",
            )
        super().__init__()
        self.shape = (channels, pixels, pixels)
        self.discount, self.double_q = discount, double
        widths = [channels, *(width for width, *_ in layers)]
        body: list[nn.Module] = []
        for before, (width, kernel, stride, padding) in zip(widths, layers, strict=False):
            body += [nn.Conv2d(before, width, kernel, stride, padding), nn.ReLU()]
        body += [nn.Flatten(), nn.Linear(widths[-1] * left**2, hidden), nn.ReLU()]
        self.network = nn.Sequential(*body, nn.Linear(hidden, actions))
        self.target = Target(self.network, rate)

    def forward(self, x: Tensor) -> Tensor:
        """Return Q values `(batch, actions)` of states `(batch, channels, size, size)`."""
        values: Tensor = self.network(x)
        return values

    def act(self, x: Tensor) -> Tensor:
        """Return the action of the largest Q value, `(batch,)`."""
        return self.forward(x).argmax(1)

    def target_value(self, x: Tensor) -> Tensor:
        """Return the target's value of states, `(batch,)`: that of the best action."""
        values: Tensor = self.target(x)
        chosen = self.act(x) if self.double_q else values.argmax(1)
        return values.gather(1, chosen[:, None])[:, 0]

    def follow(self) -> None:
        """Let the target take a step towards the network."""
        self.target.follow(self.network)

    def entries(self) -> list[Entry]:
        """Return `forward` and `act`."""
        dims = ("batch", None, None, None)
        state = Input("x", pictures(self.shape), dims=dims, low=0.0, high=1.0)
        return [
            Entry("forward", inputs=[state], outputs=["q"], units={"q": "accuracy"}),
            Entry("act", "act", inputs=[state], outputs=["action"], units={"action": "index"}),
        ]


model = DQN
