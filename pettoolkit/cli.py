"""The command line: parse, call, print; nothing else. What a command needs is imported inside it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from pettoolkit.errors import BadInput, PetError

if TYPE_CHECKING:
    from pettoolkit.advice.situation import Question
    from pettoolkit.experiment.cells import Comparison
    from pettoolkit.experiment.config import ExperimentConfig
    from pettoolkit.report.listing import Reported

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="pettoolkit",
    help="The same prediction task under each privacy-enhancing technology, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
sites_app = typer.Typer(help="Your own tables: draft and check their contract.", no_args_is_help=True)
app.add_typer(sites_app, name="sites")
keys_app = typer.Typer(help="The hospitals' shared encryption keys: make, inspect, replace.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

deploy_app = typer.Typer(help="Real hospitals: their folders, certificates, keys and processes.", no_args_is_help=True)
app.add_typer(deploy_app, name="deploy")


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


class Engine(StrEnum):
    """What carries the messages."""

    inline = "inline"
    ray = "ray"
    flower = "flower"


Experiment = Annotated[str, typer.Argument(metavar="FILE", help="Experiment file, or builtin:NAME.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the file, as --set dp.epsilon=3. Repeatable."),
]
Output = Annotated[Format, typer.Option("--format", help="A table to read, or JSON for programs.")]
Declared = Annotated[Path | None, typer.Option(metavar="FILE", help="JSON of `declare --out`.")]
Attacked = Annotated[Path | None, typer.Option(metavar="FILE", help="JSON of `attack --out`.")]
Name = Annotated[str | None, typer.Option(help="Who answers for the table; else `responsible` in --config.")]
Email = Annotated[str | None, typer.Option(help="Address of whoever answers for the table.")]
Made = Annotated[
    Path | None, typer.Option(metavar="FILE", help="YAML: how the table was made, `responsible`, `answers`.")
]
Lang = Annotated[str, typer.Option(help="en or da.")]
TrackingDir = Annotated[Path, typer.Option(help="Folder of the MLflow database and its artifacts.")]


@app.command()
def check(experiment: Experiment, sets: Sets = None) -> None:
    """Say all that is wrong with an experiment file, without running it."""
    from pettoolkit.experiment.load import load, locate
    from pettoolkit.experiment.matrix import expand
    from pettoolkit.experiment.notes import file_notes

    config = load(experiment, sets or ())
    cells = expand(config, None)
    out = sum(cell.excluded is not None for cell in cells)
    counted = f"{len(cells)} cells" + (f", {out} of them excluded" if out else "")
    each = " for each hospital that is left out" if config.evaluation.unseen == "each" else ""
    print("\n".join([f"{locate(experiment)}: ok, {counted}{each}", *(f"note: {n}" for n in file_notes(config))]))


@app.command()
def plan(experiment: Experiment, sets: Sets = None, output: Output = Format.table) -> None:
    """List the cells of an experiment: which are finished, stale, excluded, and why."""
    from pettoolkit.experiment import runner
    from pettoolkit.experiment.load import load
    from pettoolkit.experiment.notes import file_notes
    from pettoolkit.report import terminal

    config = load(experiment, sets or ())
    cells = runner.plan(config)
    _print(config.name, cells, output, terminal.plan)
    _say([f"note: {note}" for note in file_notes(config)], DONE)


@app.command()
def run(
    experiment: Experiment,
    sets: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished cells again.")] = False,
    engine: Annotated[Engine | None, typer.Option(help="Instead of the file's engine.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of the Ray engine (as many as cores); inline: cells side by side (1)."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Key files of `keys create`; made for the run if not given.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Run an experiment; finished cells are skipped, and an interrupted run goes on where it was."""
    from pettoolkit.experiment import runner
    from pettoolkit.experiment.load import load
    from pettoolkit.report import terminal

    config = load(experiment, sets or ())
    with terminal.progress(terminal.console(stderr=True)) as progress:
        found = runner.run(
            config,
            engine=engine.value if engine else None,
            force=force,
            workers=workers,
            keys=keys,
            progress=progress,
            config_text=config.text(),
        )
    _print(config.name, found.cells, output, lambda cells: terminal.comparison(cells, found.summaries, found.together))
    page = _compared(config, experiment, found, sets or ())
    if output is Format.table:
        _suggest(experiment, config.tracking.dir, page)
    if any(cell.status == "failed" for cell in found.cells):
        raise typer.Exit(SOME_FAILED)


@app.command()
def show(experiment: Experiment, sets: Sets = None, output: Output = Format.table) -> None:
    """Print an experiment's table again without running it, and a block for each technology."""
    from rich.console import Group

    from pettoolkit.experiment import runner
    from pettoolkit.experiment.load import load
    from pettoolkit.report import terminal

    config = load(experiment, sets or ())
    found = runner.show(config)
    _print(
        config.name,
        found.cells,
        output,
        lambda cells: Group(
            terminal.comparison(cells, found.summaries, found.together), terminal.blocks(cells, found.summaries)
        ),
    )


@app.command()
def report(
    experiment: Experiment,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML file to write; if not given, only MLflow has it.")
    ] = None,
) -> None:
    """Write an experiment's comparison as one HTML page, and attach it in MLflow."""
    from pettoolkit.experiment import report as reporting
    from pettoolkit.experiment.load import load

    config = load(experiment, sets or ())
    print(f"wrote {reporting.report(config, experiment, out).path}")


@app.command()
def advise(
    experiment: Experiment,
    sets: Sets = None,
    situation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML with the answers; without it, and without --answer, a terminal is asked."
        ),
    ] = None,
    answers: Annotated[
        list[str] | None,
        typer.Option("--answer", metavar="KEY=VALUE", help="As --answer trusted_coordinator=no. Repeatable."),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="AUROC that may be lost against pooled real data, 0.02 if not given.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Maturity, costs and benefits and what each source supports, too.")
    ] = False,
    output: Output = Format.table,
) -> None:
    """Say from recorded runs which technologies suit a situation, which are ruled out and why; never legal advice."""
    from pettoolkit.advice.text import lines, short
    from pettoolkit.experiment import advise as advising
    from pettoolkit.experiment.load import load

    config = load(experiment, sets or ())
    person = sys.stdin.isatty() and sys.stderr.isatty() and situation is None and not answers
    evidence = advising.recorded(config) if person else None  # nobody answers questions for nothing
    told = advising.situation(situation, answers or (), margin=margin, question=_ask if person else None)
    found = advising.advise(config, told, evidence)
    print(json.dumps(found, indent=2) if output is Format.json else "\n".join((lines if full else short)(found)))


@app.command()
def budget(
    epsilon: Annotated[float, typer.Option(help="Budget of the whole run, for adding or removing one patient.")],
    rounds: Annotated[int, typer.Option(help="Noisy sums in the whole run.")],
    patients: Annotated[int, typer.Option(help="Patients who train, of all hospitals in the sum.")],
    batch: Annotated[
        int | None, typer.Option(help="Expected size of a Poisson batch; all patients if not given.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Must be below 1 / patients.")] = 1e-5,
    sites: Annotated[int, typer.Option(help="Hospitals that add noise.")] = 1,
    noise: Annotated[
        str, typer.Option(help="local: each hospital adds all of it. shared: each a part, under encryption.")
    ] = "local",
    output: Output = Format.table,
) -> None:
    """Say how much noise a privacy budget takes, and what an attacker can do in spite of it."""
    from pettoolkit.experiment.budget import explain

    found = explain(epsilon, rounds, patients, batch=batch, delta=delta, sites=sites, noise=noise)
    print(json.dumps(found.as_json(), indent=2) if output is Format.json else "\n".join(found.lines()))


@app.command()
def schema(write: Annotated[bool, typer.Option("--write", help="Write experiments/schema.json anew.")] = False) -> None:
    """Print the JSON schema of experiment files, which editors use."""
    from pettoolkit.experiment import schema as schemas

    if write:
        print(f"wrote {schemas.write()}")
    else:
        print(schemas.text(), end="")


@app.command()
def ui(
    tracking_dir: TrackingDir = Path("mlruns"),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on this machine; a free one if not given.")
    ] = None,
) -> None:
    """Start MLflow on this machine and print the link of the page with the comparison."""
    from pettoolkit.tracking.ui import serve

    serve(tracking_dir, port=port)


@app.command()
def lab(
    number: Annotated[int, typer.Argument(min=1, metavar="N", help="Which lab, 1 to 5.")],
    tracking_dir: Annotated[
        Path, typer.Option(help="The student's own folder: results, and a copy of the lab.")
    ] = Path("mylab"),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on this machine; a free one if not given.")
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Show the code too, and let it be changed.")] = False,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open a lab on this machine alone, offline, until Ctrl-C."""
    from pettoolkit.experiment.lab import open_lab

    raise typer.Exit(open_lab(number, tracking_dir, port=port, edit=edit, browser=browser))


@sites_app.command("init")
def sites_init(file: Annotated[Path, typer.Argument(help="CSV or Parquet file.")]) -> None:
    """Draft contract.yaml beside a table; bounds are left blank, since bounds taken from data would leak."""
    from pettoolkit.cohort.draft import draft_contract
    from pettoolkit.cohort.tables import DEFAULT_CONTRACT

    target = file.parent / DEFAULT_CONTRACT
    text = draft_contract(file)
    if target.exists():
        raise BadInput(f"{target}: is there already (move it away to have a new draft)")
    target.write_text(text, encoding="utf-8")
    print(f"wrote {target}; fill in what is blank, then: pettoolkit sites check {shlex.quote(str(file))}")


@sites_app.command("check")
def sites_check(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet file (or folder of them).")],
    contract: Annotated[
        Path | None, typer.Option(help="YAML contract; contract.yaml beside the data if not given.")
    ] = None,
) -> None:
    """Say what is wrong with tables, in which file, column and row."""
    from pettoolkit.cohort.tables import load_tables

    rows_of, row_contract = load_tables(file, contract)
    whose = row_contract.named("patient_id")
    for name, rows in sorted(rows_of.items()):
        positives = int((rows[row_contract.outcome.name] == 1).sum())
        patients = rows[whose].nunique() if whose else 0
        counted = f"{patients} patients" if patients == len(rows) else f"{len(rows)} rows"
        counted += f" of {patients} patients" if 0 < patients < len(rows) else ""
        print(f"{name}: {counted}, {positives} with {row_contract.outcome.name} = 1")
    print(f"{file}: ok, {len(rows_of)} hospitals")


@keys_app.command("create")
def keys_create(
    experiment: Annotated[
        str, typer.Argument(metavar="FILE", help="Experiment file, builtin:NAME, or the word scoring.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the key files.")] = Path("keys"),
    sets: Sets = None,
) -> None:
    """Make the keys that an experiment's hospitals share; carry the files to the hospitals and to nobody else."""
    from pettoolkit.experiment import keyfiles

    for info in keyfiles.create(experiment, out, sets or ()):
        print("\n".join(keyfiles.lines(info)))
    print("Carry each file to every hospital by hand; the coordinator needs none of them and must not get one.")


@keys_app.command("inspect")
def keys_inspect(file: Annotated[Path, typer.Argument(help="Key file.")]) -> None:
    """Check a key file, and say what it is for; nothing of the secret is shown."""
    from pettoolkit.experiment import keyfiles

    print("\n".join(keyfiles.lines(keyfiles.inspect(file))))


@keys_app.command("rotate")
def keys_rotate(file: Annotated[Path, typer.Argument(help="Key file.")]) -> None:
    """Replace a key by a fresh one; the old one stays beside it as *.retired until you delete it."""
    from pettoolkit.experiment import keyfiles

    print("\n".join(keyfiles.lines(keyfiles.rotate(file))))
    print("Carry the new file to every hospital before the next run; decryptions are counted anew.")


@deploy_app.command("init")
def deploy_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    hospitals: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    host: Annotated[
        str, typer.Option(help="Name or address under which hospitals reach the coordinator.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the coordinator.")] = 9092,
    contract: Annotated[
        Path | None, typer.Option(help="YAML contract of the tables; the packaged one for ICU stays if not given.")
    ] = None,
) -> None:
    """Write a folder for each party: certificates, node keys, policies, settings and a README."""
    from pettoolkit.deployment import init

    made = init.create(folder, hospitals, host=host, port=port, contract=contract)
    print(f"wrote {folder}: authority, coordinator, {', '.join(made.hospitals)}")
    print("Carry each folder to its party by hand; each has a README. authority/ stays off the network.")


@deploy_app.command("start")
def deploy_start(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A party's folder.")]) -> None:
    """Run a party's process until Ctrl-C: the coordinator's SuperLink, or a hospital's SuperNode."""
    from pettoolkit.deployment import folders, start

    raise typer.Exit(start.start(folders.party_of(folder)))


@deploy_app.command("register")
def deploy_register(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]) -> None:
    """Let in the hospitals whose public keys lie in nodes/; the coordinator must be running."""
    from pettoolkit.deployment import folders, start

    for name, state in start.register(folders.Coordinator(folder)).items():
        print(f"{name}: {state}")


@deploy_app.command("rekey")
def deploy_rekey(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A hospital's folder.")]) -> None:
    """Make a hospital a new node key, and before its first answer a new salt, that nobody else has seen."""
    from pettoolkit.deployment import folders, init

    made = init.rekey(folders.HospitalFolder(folder))
    print(f"wrote {made.public}: send it to the coordinator, and compare {made.fingerprint}")
    print("a new split of patients, too" if made.salt else "the split of patients stays: this hospital has answered")


@deploy_app.command("renew")
def deploy_renew(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `deploy init`.")]) -> None:
    """Make the coordinator a new certificate; the old one runs out after 397 days."""
    from pettoolkit.deployment import init

    print(f"wrote {init.renew(folder)}: copy both files to the coordinator's tls/, and start it again")


@app.command()
def synthesize(
    real: Annotated[Path, typer.Option(help="CSV or Parquet of real patients.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write; never over one that is there.")],
    generator: Annotated[
        str, typer.Option(help="marginals or dp_vae (with --epsilon), gaussian_copula, ctgan, tvae.")
    ] = "marginals",
    contract: Annotated[
        Path | None, typer.Option(help="YAML contract; contract.yaml beside the data if not given.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Differential privacy of the rows; none if not given.")] = None,
    delta: Annotated[float, typer.Option(help="Of the differential privacy.")] = 1e-5,
    rows: Annotated[int | None, typer.Option(help="Rows to make; as many as there are patients if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Repeats the table; not with --epsilon.")] = None,
    fit_epochs: Annotated[
        int | None, typer.Option(help="ctgan, tvae: passes over the patients; 10 if not given.")
    ] = None,
    release_filter: Annotated[
        str, typer.Option("--filter", help="Hold back rows: none, exact (repeats of a patient) or close; no --epsilon.")
    ] = "none",
) -> None:
    """Make a table of synthetic patients, and say what is guaranteed about it."""
    from pettoolkit.experiment import synthesize as making

    made = making.synthesize(
        real,
        out,
        generator=generator,
        contract=contract,
        epsilon=epsilon,
        delta=delta,
        rows=rows,
        seed=seed,
        fit_epochs=fit_epochs,
        release_filter=release_filter,
    )
    print("\n".join(made.lines))


@app.command()
def attack(
    real: Annotated[
        Path, typer.Option(help="Table (or folder of tables) of the patients whose data were used, and of nobody else.")
    ],
    reference: Annotated[Path, typer.Option(help="Table of patients of the same kind whose data were not used.")],
    release: Annotated[
        list[Path] | None, typer.Option(help="Released table; repeatable, for releases of the same patients.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="weights.safetensors of a finished run, its result.json beside it.")
    ] = None,
    contract: Annotated[
        Path | None, typer.Option(help="YAML contract; contract.yaml beside the real table if not given.")
    ] = None,
    attacks: Annotated[str, typer.Option(help="quick (hundreds) or full (thousands).")] = "full",
    source: Annotated[
        str | None, typer.Option(help="synthetic, anonymised or raw; seen from the table if not given.")
    ] = None,
    plugin: Annotated[list[str] | None, typer.Option(help="Module with further attacks. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Repeats the measurement.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write; never over one that is there.")] = None,
    output: Output = Format.table,
) -> None:
    """Attack a released table, synthetic or anonymised, or a saved model, and say what an attacker gains from it."""
    from pettoolkit.experiment import attack as attacking
    from pettoolkit.report import risk

    if out is not None:
        attacking.check_out(out)
    found = attacking.attack(
        real,
        release or [],
        reference,
        model=model,
        contract=contract,
        attacks=attacks,
        source=source,
        seed=seed,
        plugins=plugin or (),
    )
    if out is not None:
        attacking.write(found, out)
    print(json.dumps(found.as_json(), indent=2) if output is Format.json else "\n".join(risk.lines(found.as_json())))


@app.command()
def declare(
    real: Annotated[Path, typer.Option(help="CSV or Parquet of real patients (or folder, one file per hospital).")],
    synthetic: Annotated[list[Path], typer.Option(help="CSV or Parquet of synthetic rows. Repeatable.")],
    contract: Annotated[
        Path | None, typer.Option(help="YAML contract; contract.yaml beside the data if not given.")
    ] = None,
    holdout: Annotated[Path | None, typer.Option(help="Real patients that no generator has seen.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write; never over one that is there.")] = None,
    models: Annotated[bool, typer.Option("--models", help="Rank eight models on each table as well.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One model, in seconds.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other halves and resamples.")] = 0,
    output: Output = Format.table,
) -> None:
    """Declare the quality of synthetic tables, every figure beside its noise floor; the answer is internal."""
    from pettoolkit.evaluation.quality.text import lines
    from pettoolkit.experiment import declare as declaring
    from pettoolkit.report import terminal

    with terminal.progress(terminal.console(stderr=True)) as say:
        found = declaring.declare(
            real, synthetic, contract=contract, holdout=holdout, out=out, seed=seed, quick=quick, models=models, say=say
        )
    print(declaring.as_json(found) if output is Format.json else "\n".join(lines(found)))
    if out is not None:
        print(f"wrote {out}", file=sys.stderr)


@app.command()
def assess(
    out: Annotated[Path, typer.Option(help="Folder for the reports; nothing in it is overwritten.")],
    declaration: Declared = None,
    risk: Attacked = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="FILE", help="Instead: every finished cell that released a table.")
    ] = None,
    sets: Sets = None,
    name: Name = None,
    email: Email = None,
    config: Made = None,
    lang: Lang = "en",
) -> None:
    """Write the four standard reports about a table: utility, privacy, summary, due diligence checklist."""
    from pettoolkit.experiment import assess as assessing
    from pettoolkit.experiment.load import load

    if experiment is not None and (declaration or risk or config):
        raise BadInput("--experiment: stands alone, without --declaration, --risk and --config")
    if experiment is not None:
        found = assessing.assess_experiment(load(experiment, sets or ()), out, name=name, email=email, lang=lang)
    else:
        found = assessing.assess(declaration, risk, out, name=name, email=email, config=config, lang=lang)
    print("\n".join(f"wrote {path}" for path in found))


@app.command()
def release(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV or Parquet file that is to be released.")],
    declaration: Declared = None,
    risk: Attacked = None,
    name: Name = None,
    email: Email = None,
    config: Made = None,
    accept_risk: Annotated[
        str | None, typer.Option(metavar="WHY", help="Release though the risk is above; printed on the label.")
    ] = None,
    lang: Lang = "en",
) -> None:
    """Write the label of a table beside it; refused unless quality and risk of this very file were measured."""
    from pettoolkit.experiment import assess as assessing

    found = assessing.release(
        table, declaration, risk, name=name, email=email, config=config, accept_risk=accept_risk, lang=lang
    )
    print("\n".join(f"wrote {path}" for path in found))


@app.command()
def score(
    weights: Annotated[Path, typer.Argument(help="weights.safetensors of a finished run.")],
    table: Annotated[Path, typer.Argument(help="CSV or Parquet of new patients; the outcome may be missing.")],
    contract: Annotated[
        str | None, typer.Option(help="YAML contract, or a packaged one's name; contract.yaml beside if not given.")
    ] = None,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="The scoring side gets ciphertexts only.")] = False,
    key: Annotated[Path | None, typer.Option(help="Key file of the patients' side; a fresh key if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write; printed if not given.")] = None,
) -> None:
    """Score new patients with a saved model, in the clear or encrypted."""
    from pettoolkit.experiment import scoring
    from pettoolkit.report import terminal

    found = scoring.score(weights, table, contract=contract, encrypted=encrypted, key=key)
    text = found.table().to_csv(out, index=False, float_format="%.6f", lineterminator="\n")
    if text is not None:
        print(text, end="")
    if found.traffic is not None:
        console = terminal.console(stderr=True)
        console.print("\n".join(found.traffic.lines(len(found.patients))), highlight=False)


@app.command()
def version() -> None:
    """Print the version."""
    from pettoolkit import __version__

    print(f"pettoolkit {__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 1 some cells failed, 2 bad input, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = int(app(args=given, prog_name="pettoolkit", standalone_mode=False) or DONE)
    except BadInput as error:
        return _say(error.lines, BAD_INPUT)
    except PetError as error:
        return _say([str(error)], SOME_FAILED)
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer itself turns Ctrl-C into this code
        again = f"{_program()} {shlex.join(given)}"
        return _say([f"interrupted; what is finished is kept. To go on: {again}"], INTERRUPTED)
    return code


def _ask(question: Question) -> str:
    """Put one question on a terminal."""
    words = ", ".join(question.words)
    hint = f" [{words or 'number'}; blank: {question.usual or 'not answered'}]"
    return str(typer.prompt(f"{question.text}{hint}", default="", show_default=False, err=True))


def _say(lines: Sequence[str], code: int) -> int:
    for line in lines:
        print(line, file=sys.stderr)
    return code


def _print(name: str, cells: Sequence[Reported], output: Format, table: Any) -> None:
    from pettoolkit.report import listing, terminal

    if output is Format.json:
        print(json.dumps(listing.as_json(name, cells), indent=2))
    else:
        terminal.console().print(table(cells))


def _compared(config: ExperimentConfig, experiment: str, found: Comparison, sets: Sequence[str]) -> Path | None:
    """Attach the comparison report in MLflow; if that fails, the run has not, and how to do it again is said."""
    from pettoolkit.experiment import report as reporting

    try:
        return reporting.attach(config, experiment, found)
    except Exception as error:  # whatever it is, the cells are finished and must not be called failed
        why = str(error) if isinstance(error, PetError) else f"unexpected {type(error).__name__}: {error}"
        again = shlex.join([_program(), "report", experiment, *(part for each in sets for part in ("--set", each))])
        print(f"the comparison was not attached in MLflow: {why} (again: {again})", file=sys.stderr)
        return None


def _suggest(experiment: str, tracking_dir: str, page: Path | None = None) -> None:
    where = "" if tracking_dir == "mlruns" else f" --tracking-dir {shlex.quote(tracking_dir)}"
    called = _program()
    print(f"\nNext: {called} show {shlex.quote(experiment)}    what left, whom one must trust, hospital by hospital")
    print(f"      {called} ui{where}    all figures in MLflow")
    if page is not None:
        print(f"The comparison as one page: {os.path.relpath(page)}")


def _program() -> str:
    """How a person can call this program again: its name if the shell finds it, else the path it was started by."""
    import shutil

    started = Path(sys.argv[0])
    if started.name != "pettoolkit" or shutil.which("pettoolkit") or not started.is_file():
        return "pettoolkit"
    return shlex.quote(os.path.relpath(started))


if __name__ == "__main__":
    sys.exit(main())
