"""One model's measurements: everybody draws the same, then everybody takes turns."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from _samplers import floor, graphs
from _samplers.check import confirm, same
from _samplers.networks import MADE_SCALES
from _samplers.subjects import Declared, Subject, sampler_of
from toolkit.capture.causal.network import embedded, input_like
from toolkit.core.clock import Slot, take_slot, time_call, warm_up
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import UsageError
from toolkit.core.seed import seeded
from toolkit.core.statistics import compare_rounds

BATCHES = (1, 16)
SLOT_SECONDS = 0.12
PART_SECONDS = 0.15
GROWTH_CALLS = 5
SCALED = (nn.Linear, nn.Conv1d, nn.Conv2d)
LAST_FACTOR = 4.0

Calls = dict[str, Callable[[], object]]
Row = dict[str, Any]


def measure(subject: Subject, folder: Path, rounds: int) -> Row:
    """Return everything that is told of one model.

    Arguments:
        subject: The model.
        folder: Where its exported files go.
        rounds: Rounds of one slot each, in random order.

    Raises:
        UsageError: Two samplers do not draw the same.
    """
    with torch.inference_mode():
        network = _network(subject, subject.size)
    declared = subject.declared(network, subject.size)
    files = graphs.exported(network, declared, folder / "network", steps=True)
    twin, twin_declared, twin_files = None, None, None
    if subject.twin is not None:
        twin = _twin(subject.twin, subject.size)
        twin_declared = sampler_of(twin)
        twin_files = graphs.exported(twin, twin_declared, folder / "toolkit")
    result: Row = {"title": subject.title, "size": subject.size, "files": {}, "batches": {}}
    for name, found in (("generate", files), ("toolkit", twin_files)):
        if found is not None:
            result["files"][name] = {"layout": found.layout, **graphs.facts(found.generate)}
    if files.step is not None:
        result["files"]["step"] = graphs.facts(files.step)
    for batch in BATCHES:
        racer = _Racer(subject, network, declared, files, batch)
        if twin is not None and twin_declared is not None and twin_files is not None:
            racer.enter_twin(twin, twin_declared, twin_files)
        result["batches"][str(batch)] = racer.run(rounds)
    result["growth"] = _growth(subject, folder)
    return result


def _network(subject: Subject, size: int) -> nn.Module:
    with seeded(0):
        network = subject.network(size).eval().requires_grad_(requires_grad=False)
    for name, factor in subject.sharpen.items():
        for parameter in network.get_submodule(name).parameters():
            parameter.mul_(factor)
    return network


def _twin(make: Callable[[int], nn.Module], size: int) -> nn.Module:
    """Return the toolkit's model with weights of the network's scale.

    A fresh flow is the identity, and its inverse ends when a sweep changes nothing: after one.
    """
    with seeded(0):
        twin = make(size).eval().requires_grad_(requires_grad=False)
        layers = [part for part in twin.modules() if isinstance(part, SCALED)]
        if getattr(twin, "family", "") != "flow":
            for layer in layers[-1:]:
                layer.weight.mul_(LAST_FACTOR)
            return twin
        for number, layer in enumerate(layers):
            scale = MADE_SCALES[number % len(MADE_SCALES)]
            layer.weight.copy_(scale * torch.randn_like(layer.weight))
    return twin


def _noise(subject: Subject, size: int, batch: int) -> Tensor:
    draws, shape = np.random.default_rng(batch), subject.noise(size, batch)
    drawn = draws.normal(size=shape) if subject.law == "normal" else draws.gumbel(size=shape)
    return torch.from_numpy(drawn.astype(np.float32))


def _runs(session: onnxruntime.InferenceSession, noise: Tensor) -> Callable[[], Any]:
    names = [session.get_outputs()[0].name]
    return partial(session.run, names, {session.get_inputs()[0].name: noise.numpy()})


class _Racer:
    """Contestants at one batch: each is checked before it is entered."""

    def __init__(
        self,
        subject: Subject,
        network: nn.Module,
        declared: Declared,
        files: graphs.Files,
        batch: int,
    ) -> None:
        self.subject, self.network, self.batch = subject, network, batch
        self.noise = _noise(subject, subject.size, batch)
        self.session = graphs.opened(files.generate)
        generate = _runs(self.session, self.noise)
        self.drawn = torch.from_numpy(generate()[0].copy())
        self.calls: Calls = {"generate": generate, "generate A/A": _runs(self.session, self.noise)}
        self.row: Row = {"equal": []}
        with torch.inference_mode():
            confirm(network, declared, self.noise, self.drawn)
            self._enter_naive()
            for name, make in (("cached", subject.cached), ("stepping", subject.stepping)):
                if make is not None:
                    sampler = make(network)
                    self._check(name, sampler(self.noise))
                    self.calls[name] = partial(_eager, sampler, self.noise)
        if files.step is not None and isinstance(declared, Autoregressive):
            self._enter_step(files.step, declared)

    def _check(self, name: str, drawn: Tensor) -> None:
        same(name, drawn, self.drawn)
        self.row["equal"].append(name)

    def _enter_naive(self) -> None:
        total = self.subject.size if self.subject.law == "normal" else len(self.noise)
        one = partial(self._naive, [total // 2])
        one()
        count = total
        if self.subject.law != "normal":
            count = min(total, max(2, round(PART_SECONDS * 1e9 / time_call(one)[1])))
            count = total if 2 * count >= total else count
        positions = [round((index + 0.5) * total / count - 0.5) for index in range(count)]
        expected = _by_position(self.drawn, total)[positions]
        same("naive", self._naive(positions), expected)
        self.row["equal"].append("naive")
        self.row["naive_positions_timed"], self.row["naive_scaled_by"] = count, total / count
        self.calls["naive"] = partial(_in_inference, self._naive, positions)

    def _naive(self, positions: list[int]) -> Tensor:
        return self.subject.naive(self.network, self.noise, self.drawn.clone(), positions)

    def _enter_step(self, path: Path, declared: Autoregressive) -> None:
        session, noise = graphs.opened(path), self.noise.numpy()
        levels = torch.arange(declared.levels)
        like = input_like(declared, self.noise)
        axes = declared.position_axes
        column = like.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1)[0, :1]
        values = torch.cat([embedded(declared, level[None], column) for level in levels]).numpy()
        if declared.predicts == "next":
            stream = graphs.streamed(path, declared, self.batch)
            self._check("stream", torch.from_numpy(stream(noise, values)).T)
            self.calls["stream"] = partial(stream, noise, values)
        for aliased in (True, False):
            stepper = graphs.Stepper(session, declared, self.batch, aliased=aliased)
            drawn = torch.from_numpy(stepper(noise, values))
            if torch.equal(drawn, _by_position(self.drawn, len(noise))):
                self.row["step_buffers"] = 1 if aliased else 2
                self.row["equal"].append("step")
                self.calls["step"] = partial(stepper, noise, values)
                return
        raise UsageError(f"{self.subject.title}: the step graph draws other samples")

    def enter_twin(self, twin: nn.Module, declared: Declared, files: graphs.Files) -> None:
        """Enter the toolkit's own model of the same size, checked against its own eager form."""
        call = _runs(graphs.opened(files.generate), self.noise)
        with torch.inference_mode():
            confirm(twin, declared, self.noise, torch.from_numpy(call()[0].copy()))
        self.row["equal"].append("toolkit")
        self.calls["toolkit"] = call

    def run(self, rounds: int) -> Row:
        """Return medians in milliseconds, ratios with 95 % intervals, and the floor."""
        subject, batch = self.subject, self.batch
        nodes = dict(zip(BATCHES, subject.nodes, strict=True))[batch]
        made = floor.bench(subject, batch) if subject.products else None
        calls = dict(self.calls)
        if made is not None:
            calls |= {name: getattr(made, name) for name in ("products", "chain", "empty")}
        slots = _take_turns(calls, rounds)
        scale = {"naive": self.row["naive_scaled_by"]}
        self.row["rounds"] = _rounds(slots)
        self.row["ms"] = {
            clock: {
                name: scale.get(name, 1) * statistics.median(found[clock]) / 1e6
                for name, found in self.row["rounds"].items()
            }
            for clock in ("cpu", "wall")
        }
        self.row["ratios"] = {clock: self._ratios(slots, clock) for clock in ("cpu", "wall")}
        if made is not None:
            least = {
                name: statistics.median(self.row["rounds"][name]["cpu"])
                for name in ("products", "chain", "empty")
            }
            found = floor.floor_us(least, made, nodes)
            ms = found["floor_us"] * subject.steps(subject.size) / 1e3
            self.row["floor"] = {
                **found,
                "floor_ms": ms,
                "nodes": nodes,
                "share": ms / self.row["ms"]["cpu"]["generate"],
            }
        return self.row

    def _ratios(self, slots: dict[str, list[Slot]], clock: str) -> Row:
        scaled = {name: [getattr(slot, clock) for slot in found] for name, found in slots.items()}
        factor = self.row["naive_scaled_by"]
        scaled["naive"] = [[factor * sample for sample in slot] for slot in scaled["naive"]]
        ratios = {"A/A": compare_rounds(scaled["generate"], scaled["generate A/A"])}
        for baseline in ("naive", "cached", "stepping"):
            for name in ("generate", "step", "stream", "toolkit"):
                if baseline in scaled and name in scaled:
                    ratios[f"{name} over {baseline}"] = compare_rounds(
                        scaled[baseline], scaled[name]
                    )
        return {name: asdict(ratio) for name, ratio in ratios.items()}


def _eager(sampler: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
    with torch.inference_mode():
        return sampler(noise)


def _in_inference(call: Callable[..., Tensor], *arguments: Any) -> Tensor:
    with torch.inference_mode():
        return call(*arguments)


def _by_position(drawn: Tensor, total: int) -> Tensor:
    """Return samples as `(positions, batch)`."""
    return drawn.flatten(1).T[:total]


def _take_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Slot]]:
    for call in calls.values():
        warm_up(call, limit=0.2)
    slots: dict[str, list[Slot]] = {name: [] for name in calls}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            slots[name].append(take_slot(calls[name], SLOT_SECONDS))
    return slots


def _rounds(slots: Mapping[str, list[Slot]]) -> dict[str, Row]:
    """Return the median of every slot in nanoseconds, and the calls that it holds."""
    return {
        name: {
            "cpu": [statistics.median(slot.cpu) for slot in found],
            "wall": [statistics.median(slot.wall) for slot in found],
            "calls": [len(slot.cpu) for slot in found],
        }
        for name, found in slots.items()
    }


def _growth(subject: Subject, folder: Path) -> list[Row]:
    """Return milliseconds of CPU time of the sampler at each size, batch 1, in turns."""
    if len(subject.sizes) == 1:
        return []
    calls: Calls = {}
    for size in subject.sizes:
        session = graphs.opened(_graph_of(subject, size, folder))
        calls[str(size)] = _runs(session, _noise(subject, size, 1))
    slots = _take_turns(calls, GROWTH_CALLS)
    rows = []
    for size in subject.sizes:
        medians = [statistics.median(slot.cpu) for slot in slots[str(size)]]
        positions = size if subject.law == "normal" else subject.noise(size, 1)[0]
        rows.append({"size": size, "positions": positions, "cpu_ns": medians})
    return rows


def _graph_of(subject: Subject, size: int, folder: Path) -> Path:
    """Return the graph for a size: the raced one where its length is dynamic."""
    network = _network(subject, subject.size)
    declared = subject.declared(network, subject.size)
    known = graphs.exported(network, declared, folder / "network", steps=True).generate
    first = graphs.opened(known).get_inputs()[0].shape[0]
    dynamic = isinstance(declared, Autoregressive) and not isinstance(first, int)
    if size == subject.size or dynamic:
        return known
    smaller = _network(subject, size)
    declared = subject.declared(smaller, size)
    return graphs.exported(smaller, declared, folder / str(size)).generate
