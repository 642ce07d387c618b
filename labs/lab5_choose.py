"""Lab 5: read the report of a comparison, describe a situation, and choose."""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="full", app_title="Lab 5: read the report and choose")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # Lab 5: read the report and choose

        One run, four technologies, each attacked. First read the table as you would a paper's. Then describe a
        situation and see which technologies qualify, which are ruled out and why, and where the evidence is too thin.

        **Simulated:** patients and hospitals, so that nothing here says how *your* patients would fare. **Real:** the
        training, the bytes, the attacks, the statistics. **Never:** legal advice.
        """
    )
    return (mo,)


@app.cell
def _(mo):
    from pettoolkit.experiment import lab

    EXPERIMENT = """\
name: lab5
sites: {source: simulated, stays: 240}
arms:
  - {arm: pooled}
  - {arm: federated, rounds: 20}
  - {arm: encrypted_aggregation, rounds: 20}
  - {arm: synthetic, generator: marginals}
seeds: [0, 1, 2]
attacks: quick
engine: inline
"""
    folder = lab.tracking_dir()
    for part in range(4):  # each technology's rows appear as soon as they are there
        _lines = EXPERIMENT.splitlines()
        _upto = "\n".join(_lines[: 4 + part] + _lines[7:])
        config, found = lab.run(_upto, folder)
        print(f"finished: {found.summaries[-1].spec.arm}")
        mo.output.replace(mo.md(f"finished: {', '.join(s.spec.arm for s in found.summaries)} of 4"))
    return config, folder, found, lab


@app.cell
def _(found, mo):
    from rich.console import Console

    from pettoolkit.report import terminal

    def said(part):
        """As the command line prints it."""
        console = Console(width=terminal.PIPE_WIDTH, highlight=False, markup=False)
        with console.capture() as captured:
            console.print(part)
        return captured.get()

    table = said(terminal.comparison(found.cells, found.summaries, found.together))
    blocks = said(terminal.blocks(found.cells, found.summaries))
    print(table)
    mo.vstack(
        [
            mo.md("## 1. The table (`pettoolkit run`)"),
            mo.plain_text(table),
            mo.accordion({"One block per technology (`pettoolkit show`)": mo.plain_text(blocks)}),
        ]
    )
    return


@app.cell
def _(config, folder, mo):
    from pettoolkit.experiment.report import report

    page = report(config, "lab5.yaml", folder / "comparison.html").path
    print(f"report: {page.name}")
    mo.vstack(
        [
            mo.md(
                "## 2. The report (`pettoolkit report`)\n\nThe page that you would hand to a colleague. Read it to "
                "its end, its limits too; write down which technology you would choose and with which margin."
            ),
            mo.iframe(page.read_text(encoding="utf-8"), height="900px"),
        ]
    )
    return


@app.cell
def _(mo):
    from pettoolkit.advice.situation import questions

    OPEN = "not answered"
    asked = [q for q in questions() if q.words]
    controls = mo.ui.dictionary(
        {
            q.key: mo.ui.dropdown([*q.words] if q.usual else [OPEN, *q.words], value=q.usual or OPEN, label=q.text)
            for q in asked
        }
    )
    margin = mo.ui.slider(steps=[0.01, 0.02, 0.05, 0.1, 0.15, 0.2], value=0.05, label="margin (AUROC)", show_value=True)
    mo.vstack([mo.md("## 3. Your situation. State the margin before you look below."), controls.vstack(), margin])
    return OPEN, controls, margin


@app.cell
def _(OPEN, config, controls, margin, mo):
    from pettoolkit.advice.situation import Situation
    from pettoolkit.advice.text import short
    from pettoolkit.experiment.advise import advise

    answers = {key: value for key, value in controls.value.items() if value != OPEN}
    advice = advise(config, Situation(**answers, margin=margin.value))
    for _row in advice["technologies"]:
        print(f"{_row['name']}: {_row['status']}")
    mo.vstack([mo.md("## 4. The advice (`pettoolkit advise`)"), mo.plain_text("\n".join(short(advice)))])
    return


@app.cell
def _(lab, mo):
    mo.md(
        lab.questions(
            [
                "Which technology would you have chosen from the report alone, and what in the advice made you "
                "hesitate?",
                "Move the margin from 0.05 to 0.15. Which answers change? Which AUROC would then still count as good "
                "enough, and why is choosing the margin afterwards cheating?",
                "Two technologies are not told apart by their measured risk. What would you do before choosing: more "
                "patients, other attacks, a guarantee? Who has to decide?",
            ]
        )
    )
    return


if __name__ == "__main__":
    app.run()
