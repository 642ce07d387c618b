"""Lab 4: a hospital that differs: drift, a hospital that took no part in the training, and fairness."""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="medium", app_title="Lab 4: a hospital that differs")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # Lab 4: a hospital that differs

        A model is trained at some hospitals and used at another. What does that one lose? Can you see it coming from
        its inputs alone? And whom does a good mean hide?

        **Simulated:** the hospitals, with faults that real ones have (units mixed up, other measuring habits),
        exaggerated so that a small class data set shows them. **Real:** training, scoring and statistics.
        """
    )
    return (mo,)


@app.cell
def _():
    import numpy as np

    from pettoolkit.cohort.features import encode, feature_names, outcome
    from pettoolkit.experiment import lab

    cohort, contract = lab.simulated(stays=400)
    names = sorted(cohort.hospitals)
    inputs = {site: encode(cohort.hospitals[site].rows, contract) for site in names}
    outcomes = {site: outcome(cohort.hospitals[site].rows, contract) for site in names}
    columns = feature_names(contract)
    print(f"{len(names)} hospitals, {sum(map(len, outcomes.values()))} patients")
    return cohort, columns, contract, encode, inputs, lab, names, np, outcomes


@app.cell
def _(columns, inputs, mo, names, np):
    def drift(site):
        """Standardised mean difference of each input between a hospital and all others."""
        own = inputs[site]
        others = np.concatenate([inputs[name] for name in names if name != site])
        spread = np.sqrt((own.var(axis=0) + others.var(axis=0)) / 2)
        return np.abs(own.mean(axis=0) - others.mean(axis=0)) / np.where(spread > 0, spread, 1)

    table = []
    for _site in names:
        _d = drift(_site)
        _top = np.argsort(-_d)[:4]
        table.append(
            {
                "hospital": _site,
                "mean drift": f"{_d.mean():.2f}",
                "inputs above 0.2": int((_d > 0.2).sum()),
                "most": ", ".join(f"{columns[i]} {_d[i]:.2f}" for i in _top),
            }
        )
    print(f"most drift: {max(table, key=lambda row: float(row['mean drift']))['hospital']}")
    mo.vstack(
        [
            mo.md(
                """
                ## 1. Drift: who differs, by the inputs alone

                Standardised mean differences of each encoded input between a hospital and the others (0.2 is often
                called small, 0.5 medium). A question mark is the indicator that the value is *missing*: habits differ
                most.
                """
            ),
            mo.ui.table(table, selection=None),
        ]
    )
    return (table,)


@app.cell
def _(mo, names):
    left_out = mo.ui.dropdown(names, value=names[2], label="the hospital that takes no part")
    left_out
    return (left_out,)


@app.cell
def _(lab, left_out, mo):
    EXPERIMENT = """\
name: lab4
sites: {source: simulated, stays: 400}
arms: [{arm: local}, {arm: pooled}, {arm: federated}]
evaluation: {unseen: UNSEEN}
seeds: [0, 1]
engine: inline
"""
    folder = lab.tracking_dir()
    _, inside = lab.run(EXPERIMENT.replace("UNSEEN", "[]"), folder)
    _, outside = lab.run(EXPERIMENT.replace("UNSEEN", f"[{left_out.value}]"), folder)
    site = left_out.value

    def at(comparison, arm, name):
        """AUROC at one hospital, mean over seeds, with its interval if it has one."""
        summary = next(s for s in comparison.summaries if s.spec.arm == arm)
        figure = "robustness/auroc_unseen_site" if name in summary.spec.unseen else f"site/{name}/auroc"
        value, interval = summary.mean.get(figure), summary.intervals.get(figure)
        shown = "-" if value is None else f"{value:.3f}"
        return shown if interval is None else f"{shown} ({interval.low:.3f} to {interval.high:.3f})"

    _rows = [
        {"technology": arm, "took part": at(inside, arm, site), "took no part": at(outside, arm, site)}
        for arm in ("local", "pooled", "federated")
    ]
    print(f"AUROC at {site}: " + "; ".join(f"{r['technology']} {r['took part']} / {r['took no part']}" for r in _rows))
    mo.vstack(
        [
            mo.md(
                f"""
                ## 2. {site} took part, or did not

                AUROC at {site}. *local, took no part*: the mean of the other hospitals' own models there. Look at the
                intervals before you tell a story about the difference.
                """
            ),
            mo.ui.table(_rows, selection=None),
        ]
    )
    return (inside,)


@app.cell
def _(mo):
    factor = mo.ui.slider(
        steps=[1, 2, 5, 9.01, 18], value=9.01, label="Lactate is written so many times too large", show_value=True
    )
    factor
    return (factor,)


@app.cell
def _(cohort, contract, encode, factor, inputs, left_out, mo, names, np, outcomes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    _train = [name for name in names if name != left_out.value]
    model = LogisticRegression(max_iter=500).fit(
        np.concatenate([inputs[n] for n in _train]), np.concatenate([outcomes[n] for n in _train])
    )
    _rows = cohort.hospitals[left_out.value].rows
    _wrong = _rows.assign(Lactate=_rows["Lactate"] * factor.value)
    _scores = [model.predict_proba(encode(r, contract))[:, 1] for r in (_rows, _wrong)]
    _auroc = [roc_auc_score(outcomes[left_out.value], s) for s in _scores]
    _alarms = [float((s > 0.1).mean()) for s in _scores]
    print(f"units mixed up: AUROC {_auroc[0]:.3f} -> {_auroc[1]:.3f}, alarms {_alarms[0]:.0%} -> {_alarms[1]:.0%}")
    mo.md(
        f"""
        ## 3. A fault in the units

        The others' model at {left_out.value}, Lactate written {factor.value:g} times too large (9.01 is mg/dL where
        mmol/L is meant). AUROC **{_auroc[0]:.3f}** before, **{_auroc[1]:.3f}** after; patients above an alarm
        threshold of 10 %: **{_alarms[0]:.0%}** before, **{_alarms[1]:.0%}** after. Where a value is the same number
        of times too large for all patients, ranks within the hospital may hardly change while every probability is
        wrong: AUROC does not see it.
        """
    )
    return


@app.cell
def _(inside, mo):
    from pettoolkit.records import NotMeasured

    _rows = []
    for _cell in inside.cells:
        if _cell.result is not None and _cell.spec.arm != "local":
            for _name, _groups in _cell.result.subgroups.items():
                for _level, _value in _groups.items():
                    _said = f"not measured: {_value.reason}" if isinstance(_value, NotMeasured) else f"{_value:.3f}"
                    _rows.append({"technology": _cell.spec.arm, "seed": _cell.spec.seed, "group": f"{_name}: {_level}",
                                  "AUROC": _said})  # fmt: skip
    mo.vstack(
        [
            mo.md(
                """
                ## 4. Fairness: whom the mean hides

                AUROC within groups of test patients, all hospitals together. Compare two seeds before you call a gap a
                finding.
                """
            ),
            mo.ui.table(_rows, selection=None, page_size=12),
        ]
    )
    return


@app.cell
def _(lab, mo):
    mo.md(
        lab.questions(
            [
                "Drift was largest at one hospital. Does that one also lose most when it takes no part? What else "
                "could explain the loss?",
                "Which check, run inside the hospital before any model, would have found the mixed-up units?",
                "A group's AUROC is lower in both seeds. Name two reasons that are not about how the model was "
                "trained, and how you would tell them apart.",
            ]
        )
    )
    return


if __name__ == "__main__":
    app.run()
