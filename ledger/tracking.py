"""Tracking: calls of a function as trials."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from ledger.backends.base import config_digest
from ledger.caller import warn_caller
from ledger.capture.handle import collect_for
from ledger.capture.options import CaptureOptions, options_of
from ledger.capture.read import captured_of
from ledger.errors import InvalidValue, ResultDiffers, ResultNotRecorded
from ledger.run import Run
from ledger.state import Status
from ledger.streams import subject_of
from ledger.trial import LEASE_SECONDS, Trial
from ledger.values import encode_value

if TYPE_CHECKING:
    from ledger.experiment import Experiment

_MOST_RESULT_BYTES = 480 * 1024  # a record ends at 512 KiB
_TRIALS_COMPARED = 16  # of those with the same inputs, the newest

P = ParamSpec("P")
R = TypeVar("R")


class Tracked(Generic[P, R]):
    """A function whose calls are trials of an experiment. Made by ``Experiment.track``.

    The trial's config are the arguments, with defaults; a parameter called ``trial`` is given the trial's handle and is none
    of it. What the function returns is its result: a dict of results, or one value, under the name of the experiment's only
    objective or ``result``. What it raises fails the trial and goes on, KeyboardInterrupt and SystemExit too. A process that
    it forks cannot write as this one: there the handle raises ForkedHandle.
    """

    def __init__(
        self, experiment: Experiment, function: Callable[P, R], *, capture: CaptureOptions | bool = True,
        deterministic: bool = False, group: str = "",
    ) -> None:  # fmt: skip
        _check_function(function)
        if deterministic and options_of(capture) is None:
            raise InvalidValue("deterministic=True compares calls of the same code, which capture=False leaves unknown.")
        functools.update_wrapper(self, function)
        self._experiment, self._function = experiment, function
        self._capture, self._deterministic, self._group = capture, deterministic, group
        self._known: dict[tuple[str, bytes], tuple[int, bytes]] = {}  # code, inputs -> the last trial and its output

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in a trial of its own, and return what it returns."""
        return self.call(args, kwargs)[1]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(cast("Any", self), instance)

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Trial, R]:
        """Call the function in a trial of its own; return the trial and what it returned."""
        config, wants_trial = self._config(args, kwargs)
        trial = self._experiment.new_trial(config, group=self._group, lease_seconds=LEASE_SECONDS)  # else others might claim it
        left_out: list[str] = []
        more = {"trial": trial} if wants_trial else {}
        function: Callable[..., R] = self._function
        with Run(trial, LEASE_SECONDS, self._capture, self._function):
            value = function(*args, **kwargs, **more)
            if not trial.is_done:
                results, left_out = self._results(value)
                trial.complete(results)
        if left_out:
            what = "; ".join(left_out)
            warn_caller(ResultNotRecorded(f"{trial.stream}: {what} Keep it as an artifact."))
        if self._deterministic:
            self._compare(trial)
        return trial, value

    def _config(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the arguments by name, and whether the function wants the trial's handle."""
        try:
            signature = inspect.signature(self._function)
        except ValueError:  # of a built-in one nothing is known
            return dict(kwargs), False
        parameters = signature.parameters
        wants_trial = "trial" in parameters and "trial" not in signature.bind_partial(*args, **kwargs).arguments
        bound = signature.bind(*args, **{**kwargs, "trial": None} if wants_trial else kwargs)
        bound.apply_defaults()
        config: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                config |= value
            elif not (name == "trial" and wants_trial) and not (name == "self" and next(iter(parameters)) == "self"):
                config[name] = value
        return config, wants_trial

    def _results(self, value: Any) -> tuple[dict[str, Any], list[str]]:
        """Return the results that can be recorded, and what is to be said of the others."""
        if value is None:
            return {}, []
        objectives = list(self._experiment.objectives)
        given = dict(value) if isinstance(value, Mapping) else {objectives[0] if len(objectives) == 1 else "result": value}
        results, left_out, size = {}, [], 0
        for name, item in given.items():
            try:
                size += len(encode_value({name: item}, f"the result {name!r}"))
                if size > _MOST_RESULT_BYTES:
                    raise InvalidValue(f"the result {name!r} makes the record larger than {_MOST_RESULT_BYTES:,} bytes.")
                if type(name) is not str:
                    raise InvalidValue(f"the result's name {name!r} is no text.")
            except InvalidValue as error:
                left_out.append(str(error))
            else:
                results[name] = item
        return results, left_out

    def _compare(self, trial: Trial) -> None:
        """Warn when the trial of the same inputs and code before had another result."""
        state = trial.state
        if state.status is not Status.SUCCEEDED:
            return
        key = captured_of(trial.history())["function"], config_digest(state.config)
        output = config_digest(state.results)
        before = self._known.get(key) or self._look(trial, *key)
        self._known[key] = trial.id, output
        if before is not None and before[1] != output:
            warn_caller(
                ResultDiffers(
                    f"{trial.stream} has another result than trial {before[0]}, which had the same inputs and the same code. "
                    "`ledger diff` of the two shows what was different."
                )
            )

    def _look(self, trial: Trial, code: str, inputs: bytes) -> tuple[int, bytes] | None:
        """Find the newest trial before with these inputs and this code; return it and its output's digest."""
        earlier = (other for other in self._succeeded(code, inputs) if other.id < trial.id)
        return next(((other.id, config_digest(other.results)) for other in earlier), None)

    def find_succeeded(self, config: Mapping[str, Any]) -> Trial | None:
        """Return the newest trial that has SUCCEEDED with these arguments and this code; None when the code is not known."""
        captures = collect_for(self._capture, self._function) or {}
        code = captures.get("function")
        if code is None or not code.content.keys() & {"text", "bytecode"}:
            return None
        return next(self._succeeded(code.digest, config_digest(self._config((), config)[0])), None)

    def _succeeded(self, code: str, inputs: bytes) -> Iterator[Trial]:
        """Iterate over the experiment's trials of these inputs and this code that have SUCCEEDED, the newest first."""
        log, experiment = self._experiment.book.log, self._experiment
        for record in reversed(log.backend.read_positions(log.backend.config_positions(inputs)[-_TRIALS_COMPARED:])):
            subject = subject_of(record.stream)
            if subject is None or subject.trial_id is None or subject.experiment_id != experiment.id:
                continue
            other = Trial(experiment, subject.trial_id)
            state = other.state
            is_good = state.status is Status.SUCCEEDED and state.deleted_at is None
            if is_good and captured_of(other.history()).get("function") == code:
                yield other


def _check_function(function: Any) -> None:
    if not callable(function):
        raise InvalidValue(f"{function!r} cannot be called; give a function.")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidValue(
            f"{function!r} is asynchronous or a generator: its call ends before its work does. Use `with trial.run():` inside."
        )
