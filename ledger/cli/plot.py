"""The command that draws pictures."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from ledger.cli.app import command
from ledger.cli.frames import AsOfOption, CacheDirOption, WhereOption, experiment_id, open_tables, position_of, trials_where
from ledger.cli.opening import ExperimentArgument, PathArgument
from ledger.cli.output import printable
from ledger.values import check_text


class Kind(enum.StrEnum):
    """What is drawn of an experiment."""

    HISTORY = "history"
    PARALLEL = "parallel"
    CURVES = "curves"


class PictureOption(enum.StrEnum):
    """What a picture can be written as."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"
    HTML = "html"


@command(
    "ledger plot runs.ledger sqlite-tuning -o history.png",
    "ledger plot runs.ledger sqlite-tuning --kind parallel -o parameters.html",
    "ledger plot runs.ledger sqlite-tuning --kind curves --metric throughput --trial 1 --trial 2 -o curves.svg",
)
def plot(
    path: PathArgument,
    experiment: ExperimentArgument,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="The file to write: .png, .svg, .pdf or .html.", show_default=False),
    ],
    kind: Annotated[
        Kind, typer.Option(help="Results by trial with the best so far, parameters and result, or metrics by step.")
    ] = Kind.HISTORY,
    target: Annotated[
        str | None, typer.Option(metavar="RESULT", help="The result; the first objective if left out.", show_default=False)
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="parallel: only this parameter; repeat for more.", show_default=False),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="curves: only this metric; repeat for more.", show_default=False)
    ] = None,
    trial: Annotated[
        list[int] | None, typer.Option(metavar="TRIAL", min=0, help="Only this trial; repeat for more.", show_default=False)
    ] = None,
    where: WhereOption = None,
    as_of: AsOfOption = None,
    cache_dir: CacheDirOption = None,
    log: Annotated[bool, typer.Option("--log", help="history, curves: a logarithmic axis.")] = False,
    form: Annotated[
        PictureOption | None, typer.Option("--format", help="Told by the file's name if left out.", show_default=False)
    ] = None,
) -> None:
    """Draw a picture of an experiment to a file.

    An HTML file is one page that needs no other, with a word on each trial under the mouse. Needs the extra `plot`.
    """
    given = {"--target": target, "--parameter": parameter, "--metric": metric, "--log": log}
    for name in _UNUSED[kind]:
        if given[name]:
            raise typer.BadParameter(f"{name} is not for --kind {kind}. Leave it out.", param_hint=repr(name))
    with open_tables(path, cache_dir) as tables:
        from projections import plot as pictures

        position = position_of(tables, as_of)
        found = experiment_id(tables, experiment, position)
        selected = trials_where(tables, found, where, position)
        chosen = selected if not trial else [each for each in trial if selected is None or each in selected]
        if kind is Kind.HISTORY:
            figure = pictures.history(tables, found, target=target, as_of=position, trials=chosen, log=log)
        elif kind is Kind.PARALLEL:
            figure = pictures.parallel(tables, found, target=target, parameters=parameter, as_of=position, trials=chosen)
        else:
            figure = pictures.curves(tables, found, metrics=metric, as_of=position, trials=chosen, log=log)
        pictures.save_picture(figure, check_text(output, "--output"), file_format=None if form is None else form.value)
    print(f"Wrote {printable(output)}.")


#: The options that say nothing of a kind.
_UNUSED = {
    Kind.HISTORY: ("--parameter", "--metric"),
    Kind.PARALLEL: ("--metric", "--log"),
    Kind.CURVES: ("--target", "--parameter"),
}
