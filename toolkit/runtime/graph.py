"""One opened graph: onnxruntime behind a checked call with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.core.errors import IntegrityError, MissingError, TimedOut, ToolkitError, UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.feeds import Arrays
from toolkit.runtime.providers import PROVIDERS, onnxruntime, open_session, provider_names
from toolkit.runtime.strict import shown

_TYPES = {"float": "float32", "double": "float64"}


class Graph:
    """An opened graph.

    Arguments:
        path: The `.onnx` file; it is not needed once the graph is open.
        signature: What the graph takes and gives.
        threads: Threads inside an operator.
        providers: Execution providers, short names or onnxruntime's.
        timeout: Seconds one call may take; 0 for no limit.

    Raises:
        IntegrityError: onnxruntime refuses the file, or the signature is another graph's.
        MissingError: A provider is absent.
    """

    def __init__(
        self,
        path: Path,
        signature: Signature,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("cpu",),
        timeout: float = 0.0,
    ) -> None:
        self.signature = signature
        self.timeout = timeout
        self._names = [spec.name for spec in signature.outputs]
        names = provider_names(providers)
        module = onnxruntime()
        options = module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = open_session(str(path), options, names)
        except MissingError:
            raise
        except Exception as error:
            raise IntegrityError(
                f"onnxruntime refuses the graph: {shown(error, limit=400)}",
                where=f"{signature.entry}: {path.name}",
                next_step="upgrade onnxruntime, or export the graph again",
            ) from error
        _same("inputs", self._session.get_inputs(), signature.inputs, signature.entry)
        _same("outputs", self._session.get_outputs(), signature.outputs, signature.entry)
        self._run_options = module.RunOptions

    def prepare(self, feeds: Arrays) -> Callable[[], object]:
        """Return the bare call that a timer sees."""
        session, names = self._session, self._names
        return lambda: session.run(names, feeds)

    def bound(self, feeds: Arrays, results: Arrays) -> Callable[[], object]:
        """Return a call that reads and writes the given arrays in place.

        On another device than the processor a binding copies its inputs once, when it is made:
        there every call copies them, and its results back.

        Arguments:
            feeds: Every input by name; contiguous.
            results: Every output by name; contiguous, of the shapes that the inputs give.

        Returns:
            The call; it raises what `__call__` raises.
        """
        if self._session.get_providers() != [PROVIDERS["cpu"]]:
            return partial(self._run_copied, feeds, results)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            place = array.ctypes.data
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, place)
        for name, array in results.items():
            place = array.ctypes.data
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, place)
        # The binding knows addresses alone: the call keeps the arrays.
        return partial(self._run_bound, binding, (feeds, results))

    def _run_copied(self, feeds: Arrays, results: Arrays) -> None:
        for name, value in self(feeds).items():
            results[name][...] = value

    def _run_bound(self, binding: Any, _: tuple[Arrays, Arrays]) -> None:
        run = self._session.run_with_iobinding
        if self.timeout:
            self._guarded(lambda options: run(binding, options))
            return
        try:
            # Without options, which cost a bound call 35 us: as much as half a small step.
            run(binding)
        except Exception as error:
            raise self._failure(error) from error

    def __call__(self, feeds: Arrays) -> Arrays:
        """Run once and return every output by name.

        Raises:
            TimedOut: The call passed its time limit and was stopped.
            ToolkitError: The graph failed on these inputs.
        """
        values = self._guarded(lambda options: self._session.run(self._names, feeds, options))
        return dict(zip(self._names, values, strict=True))

    def _guarded(self, call: Callable[[Any], Any]) -> Any:
        """Return what a call with run options gives, within the time limit."""
        options = self._run_options()
        options.log_severity_level = 4
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            options.terminate = True

        timer = threading.Timer(self.timeout, stop) if self.timeout else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            return call(options)
        except Exception as error:
            if stopped.is_set():
                raise TimedOut(
                    f"{self.signature.entry!r} did not finish within {self.timeout:g} s",
                    next_step="raise the time limit, or run fewer samples at once",
                ) from error
            raise self._failure(error) from error
        finally:
            if timer:
                timer.cancel()

    def _failure(self, error: Exception) -> ToolkitError:
        return ToolkitError(
            f"the graph failed on these inputs: {shown(error, limit=400)}",
            where=self.signature.entry,
            next_step="check the inputs' values",
        )

    def answer(self, feeds: Arrays) -> Any:
        """Run once and return the only output, or a tuple of all."""
        outputs = tuple(self(feeds).values())
        return outputs[0] if len(outputs) == 1 else outputs


def _same(what: str, given: Sequence[Any], told: Sequence[TensorSpec], entry: str) -> None:
    found = {node.name: _dtype(node.type) for node in given}
    expected = {spec.name: spec.dtype for spec in told}
    if found != expected:
        raise IntegrityError(
            f"the graph's {what} are {shown(found)}, the manifest says {shown(expected)}",
            where=entry,
            next_step="bundle again",
        )


def _dtype(text: str) -> str:
    element = text.removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(element, element)


def check_threads(threads: int) -> int:
    """Return the thread count.

    Raises:
        UsageError: It is negative.
    """
    if threads < 0:
        raise UsageError(
            f"{threads} threads", next_step="give 1 or more; 0 lets onnxruntime choose"
        )
    return threads
