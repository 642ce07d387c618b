"""Lab 3: make synthetic tables, attack them and a k-anonymised one, and read what an attacker gains."""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="medium", app_title="Lab 3: attack your own synthetic data")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # Lab 3: attack your own synthetic data

        You make tables that could be given away: two from a generator, one from a generator of your own, one
        k-anonymised. Then you attack them as an outsider would, and compare what the attacks get from patients who
        are in the data with what they get from patients who are not.

        **Simulated:** the patients. **Real:** the generators, the anonymiser and the attacks; they are those of
        `pettoolkit synthesize` and `pettoolkit attack`.
        """
    )
    return (mo,)


@app.cell
def _():
    import pandas as pd
    import yaml

    from pettoolkit.experiment import lab

    folder = lab.tracking_dir() / "lab3"
    folder.mkdir(parents=True, exist_ok=True)
    cohort, contract = lab.simulated(stays=240)
    columns = [c.name for c in contract.columns]
    patients = pd.concat([h.rows for h in cohort.hospitals.values()], ignore_index=True)
    patients = patients[[c for c in columns if c in patients]].sample(frac=1, random_state=0)
    for column in contract.feature_columns:  # some hospitals mix up units; a table of one's own is cleaned first
        if column.kind == "number":
            patients[column.name] = patients[column.name].clip(column.low, column.high)
    real, others = patients.iloc[:500].copy(), patients.iloc[500:1000].copy()
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract.model_dump(mode="json", exclude_defaults=True)))
    real.to_csv(folder / "real.csv", index=False)
    others.to_csv(folder / "others.csv", index=False)
    return contract, folder, lab, pd, real


@app.cell
def _(contract, real):
    import numpy as np

    def my_generator(patients):
        """Yours to change: here each patient with a little noise, which looks harmless in every histogram."""
        made = patients.sample(len(patients), replace=True, random_state=1).reset_index(drop=True)
        rng = np.random.default_rng(1)
        for column in contract.feature_columns:
            if column.kind == "number" and not column.integer:
                reach = column.high - column.low
                noisy = made[column.name] + rng.normal(0, 0.005 * reach, len(made))
                made[column.name] = noisy.clip(column.low, column.high)
        return made

    mine = my_generator(real)
    return (mine,)


@app.cell
def _(contract, folder, mine, mo, pd, real):
    from pettoolkit.experiment.synthesize import synthesize
    from pettoolkit.synthesis.anonymise import anonymise

    tables = {
        "generator: marginals": folder / "marginals.parquet",
        "generator: marginals, epsilon 1": folder / "marginals_epsilon1.parquet",
        "my generator": folder / "mine.csv",
        "k-anonymised, k = 5": folder / "k5.csv",
    }
    for path in tables.values():
        path.unlink(missing_ok=True)
    _where = {"real": folder / "real.csv", "contract": folder / "contract.yaml", "generator": "marginals"}
    synthesize(out=tables["generator: marginals"], seed=1, **_where)
    synthesize(out=tables["generator: marginals, epsilon 1"], epsilon=1.0, delta=1e-4, **_where)
    kept = [c.name for c in (*contract.feature_columns, contract.outcome)]
    mine[kept].to_csv(tables["my generator"], index=False)
    anonymous = anonymise(real, contract, k=5).generalised
    pd.DataFrame(anonymous).to_csv(tables["k-anonymised, k = 5"], index=False)
    print(f"made {len(tables)} tables of {len(real)} patients")
    mo.vstack(
        [
            mo.md("## 1. Tables that could be given away\n\nThe first rows of the k-anonymised one (k = 5):"),
            mo.ui.table(
                pd.DataFrame(anonymous).head(5)[["Age", "Gender", "HospAdmTime", "HR", "Lactate"]], selection=None
            ),
        ]
    )
    return (tables,)


@app.cell
def _(folder, mo, tables):
    from pettoolkit.experiment.attack import attack

    reports = {}
    for name, table in tables.items():
        reports[name] = attack(
            folder / "real.csv", [table], folder / "others.csv", contract=folder / "contract.yaml", attacks="quick"
        )
        verdict = reports[name].releases[0].verdict
        print(f"{name}: {verdict.state}")
        mo.output.replace(mo.md(f"attacked: {', '.join(reports)}"))
    return (reports,)


@app.cell
def _(mo, reports):
    def figures(report):
        """Excess risk by attack, of the release and of the real table (ceiling)."""
        own = {f"{f.attack} {f.measure}": f for f in report.releases[0].figures}
        floor, *_, ceiling = next(iter(report.anchors.values()))
        known = [{f"{f.attack} {f.measure}": f.excess for f in a.figures} for a in (floor, ceiling)]
        return [
            {
                "attack": name,
                "excess risk": f"{f.excess:.2f} ({f.interval.low:.2f} to {f.interval.high:.2f})",
                "success": f"{f.success:.2f}",
                "control": f"{f.control:.2f}",
                "fresh patients": f"{known[0].get(name, float('nan')):.2f}",
                "real table": f"{known[1].get(name, float('nan')):.2f}",
            }
            for name, f in own.items()
        ]

    mo.vstack(
        [
            mo.md(
                """
                ## 2. What the attacks get

                *Excess risk*: of the patients on whom the attack would have failed, the share on whom it succeeds
                because they are in the data. *Fresh patients*: the same attack where nobody can be exposed. *Real
                table*: the ceiling.
                """
            ),
            mo.ui.tabs({name: mo.ui.table(figures(report), selection=None) for name, report in reports.items()}),
        ]
    )
    return


@app.cell
def _(mo, reports):
    _rows = [
        {"table": name, "verdict": r.releases[0].verdict.state, "why": r.releases[0].verdict.why[:160]}
        for name, r in reports.items()
    ]
    mo.vstack(
        [
            mo.md("## 3. Verdicts\n\n*Undecided* is no acquittal: it means too few patients to tell."),
            mo.ui.table(_rows, selection=None),
        ]
    )
    return


@app.cell
def _(lab, mo):
    mo.md(
        lab.questions(
            [
                "Your own generator has good histograms. Which attack sees through it, and what would you change to "
                "stop it?",
                "The k-anonymised table stops one attack completely. Which one, and which go on working? Why?",
                "One table has a guarantee and one has not, and both may read *undecided*. What can you say of the one "
                "that you cannot say about the other?",
            ]
        )
    )
    return


if __name__ == "__main__":
    app.run()
