"""Lab 2: spend a privacy budget, see what it costs in AUROC, and what ten runs add up to."""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="medium", app_title="Lab 2: spend a privacy budget")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # Lab 2: spend a privacy budget

        Differential privacy bounds what *anything* that is computed from the patients says about one of them. The
        price is noise. Here you choose epsilon, see what the best attacker can do in spite of it, watch what it costs
        in AUROC, and add up ten runs.

        **Simulated:** the patients, the hospitals, and the noise (it comes from a seed, so that figures repeat; in
        a deployment it comes from the system's entropy). **Real:** the accounting, the training, the AUROC on patients
        who were not trained on.
        """
    )
    return (mo,)


@app.cell
def _(mo):
    epsilon = mo.ui.slider(steps=[0.1, 0.3, 0.5, 1, 2, 3, 5, 10], value=1, label="epsilon", show_value=True)
    runs = mo.ui.slider(1, 30, value=10, label="runs on the same patients", show_value=True)
    mo.hstack([epsilon, runs], justify="start")
    return epsilon, runs


@app.cell
def _(epsilon, mo):
    from pettoolkit.experiment.budget import explain

    ROUNDS, PATIENTS, DELTA = 30, 260, 1e-5
    told = explain(epsilon.value, rounds=ROUNDS, patients=PATIENTS, delta=DELTA)
    print(f"epsilon {epsilon.value:g}: noise multiplier {told.meaning.mechanism.sigma:.3g}")
    mo.md(f"## 1. What epsilon {epsilon.value:g} means\n\n" + "\n".join(f"- {line}" for line in told.lines()))
    return DELTA, told


@app.cell
def _(DELTA, epsilon, mo, runs, told):
    from pettoolkit.privacy.accounting import compose

    one = told.meaning.mechanism
    totals = {n: compose([one] * n, DELTA) for n in sorted({1, 2, 5, 10, runs.value})}
    print(f"10 runs at epsilon {epsilon.value:g} compose to {totals[10]:.3g}")
    mo.vstack(
        [
            mo.md(
                f"""
                ## 2. What runs add up to

                Every run on the same patients spends. {runs.value} runs at epsilon {epsilon.value:g} compose to epsilon
                **{totals[runs.value]:.3g}** at the same delta, by exact accounting of Gaussian noise. Plain adding up
                would say {runs.value * epsilon.value:g}, an upper bound. Tuning with twenty settings is twenty runs.
                """
            ),
            mo.ui.table(
                [{"runs": n, "composed": f"{e:.3g}", "added up": f"{n * epsilon.value:g}"} for n, e in totals.items()],
                selection=None,
            ),
        ]
    )
    return


@app.cell
def _():
    EXPERIMENT = """
    name: lab2
    sites: {source: simulated, stays: 500}
    arms:
      - {arm: federated, strategy: fedsgd, rounds: 30}
      - {arm: encrypted_aggregation, strategy: fedsgd, rounds: 30}
    dp: DP
    seeds: [0]
    engine: inline
    """
    return (EXPERIMENT,)


@app.cell
def _(EXPERIMENT, mo):
    from textwrap import dedent

    from pettoolkit.experiment import lab

    folder = lab.tracking_dir()
    measured = {}

    def drawn():
        """Epsilon against AUROC, with the interval over patients and seeds."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axes = figure.subplots()
        for arm, label in (("federated", "noise at each hospital"), ("encrypted_aggregation", "shared, encrypted")):
            points = [(e, *measured[e][arm]) for e in measured if e is not None and arm in measured[e]]
            if points:
                at, value, low, high = zip(*points, strict=True)
                reach = [
                    [v - a for v, a in zip(value, low, strict=True)],
                    [b - v for v, b in zip(value, high, strict=True)],
                ]
                axes.errorbar(at, value, yerr=reach, marker="o", capsize=3, label=label)
        if None in measured:
            axes.axhline(measured[None]["federated"][0], linestyle=":", color="black", label="no differential privacy")
        axes.set(xscale="log", xlabel="epsilon (per patient, whole run)", ylabel="AUROC, mean over hospitals")
        axes.axhline(0.5, color="grey", linewidth=0.5)
        axes.legend()
        return figure

    for budget in (None, 10, 3, 1, 0.3):
        text = dedent(EXPERIMENT).replace("DP", "null" if budget is None else f"{{epsilon: {budget}}}")
        if budget is None:  # encryption gives the same model, only slower
            text = "".join(line for line in text.splitlines(keepends=True) if "encrypted" not in line)
        _, found = lab.run(text, folder)
        measured[budget] = {
            s.spec.arm: (s.mean["utility/auroc"], s.mean["utility/auroc_low"], s.mean["utility/auroc_high"])
            for s in found.summaries
        }
        print(f"epsilon {budget or 'without'}: AUROC {measured[budget]['federated'][0]:.3f} (noise at each hospital)")
        mo.output.replace(mo.vstack([mo.md("## 3. What it costs (drawn as the runs finish)"), drawn()]))
    return lab, measured


@app.cell
def _(measured, mo):
    _plain = measured[None]["federated"][0]
    _rows = [
        {
            "epsilon": "none" if e is None else f"{e:g}",
            "noise at each hospital": f"{f['federated'][0]:.3f}",
            "shared, encrypted": f"{f.get('encrypted_aggregation', f['federated'])[0]:.3f}",
            "lost (each hospital)": f"{_plain - f['federated'][0]:+.3f}",
        }
        for e, f in measured.items()
    ]
    mo.vstack(
        [
            mo.ui.table(_rows, selection=None),
            mo.md(
                """
                Shared noise costs less, since each hospital adds only its part; it holds only if the coordinator and no
                hospital work together. All the points above were measured on the same patients: together they
                compose (part 2), and the run without privacy makes the sum infinite.
                """
            ),
        ]
    )
    return


@app.cell
def _(lab, mo):
    mo.md(
        lab.questions(
            [
                "Halve epsilon twice. What happens to the attacker's success, and what to the AUROC? Which of the two "
                "would you have expected to move more?",
                "You tuned the learning rate in ten runs and published one model. Which epsilon do you state, and what "
                "does it cover?",
                "One seed of five small hospitals: which differences between points are more than chance?",
            ]
        )
    )
    return


if __name__ == "__main__":
    app.run()
