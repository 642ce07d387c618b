"""Screenshots of MLflow, the comparison and the standard reports into look/: ``make look`` (needs Chromium)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pettoolkit import cli
from pettoolkit.errors import PetError
from pettoolkit.experiment.assess import assess_experiment
from pettoolkit.experiment.load import load
from pettoolkit.experiment.report import report
from pettoolkit.tracking import ui

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXPERIMENT = "quickstart"
SIZE = (1800, 1100)
"""Width and height of the window, pixels."""
REPORT_SIZE = (1250, 3600)
COMPARISON_SIZE = (1250, 6000)
PATIENCE_MS = 25_000
"""Time that the page's own clock is let run, so that its requests are answered; not real time."""
LIMIT_SECONDS = 180
DARK = "--blink-settings=preferredColorScheme=0"


def main() -> int:
    """Run what is not finished of the quickstart, serve it, and take the pictures."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"look: skipped, there is no Chromium here (looked for {', '.join(BROWSERS)})")
        return 0
    mlruns, target = ROOT / "mlruns", ROOT / "look"
    target.mkdir(exist_ok=True)
    code = cli.main(["run", str(ROOT / "experiments" / f"{EXPERIMENT}.yaml"), "--set", f"tracking.dir={mlruns}"])
    if code != cli.DONE:
        return code
    try:
        _comparison(browser, mlruns, target)
        pages = _pages(ui.links(mlruns, EXPERIMENT)[EXPERIMENT])
        pages["report_inline"] = ui.report_links(mlruns, [EXPERIMENT])[EXPERIMENT]
        with ui.running(mlruns) as server:
            for name, address in ((name, server.url + page) for name, page in pages.items()):
                _shoot(browser, address, target / f"{name}.png")
        _standard_reports(browser, mlruns, target)
    except PetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _comparison(browser: str, mlruns: Path, target: Path) -> None:
    """Pictures of the quickstart's comparison report, light and dark."""
    named = f"builtin:{EXPERIMENT}"
    written = report(load(named, [f"tracking.dir={mlruns}"]), named)
    _shoot(browser, written.path.as_uri(), target / "comparison.png", COMPARISON_SIZE)
    _shoot(browser, written.path.as_uri(), target / "comparison_dark.png", COMPARISON_SIZE, DARK)


def _standard_reports(browser: str, mlruns: Path, target: Path) -> None:
    """Pictures of the four reports of the quickstart's first released table, in both languages."""
    config = load(f"builtin:{EXPERIMENT}", [f"tracking.dir={mlruns}"])
    with tempfile.TemporaryDirectory() as folder:
        for lang in ("en", "da"):
            out = Path(folder) / lang
            summary = assess_experiment(config, out, name="Ada Lovelace", email="ada@example.org", lang=lang)[0]
            for page in sorted(summary.parent.glob("*.html")):
                _shoot(browser, page.as_uri(), target / f"report_{page.stem}_{lang}.png", REPORT_SIZE)


def _pages(table: str) -> dict[str, str]:
    """Name of a picture to the address of its page."""
    return {
        "table": table,
        "charts": table.replace("compareRunsMode=TABLE", "compareRunsMode=CHART"),
        "all_runs": table.partition("?")[0] + "?workflowType=machine_learning",
    }


def _shoot(browser: str, address: str, picture: Path, size: tuple[int, int] = SIZE, *options: str) -> None:
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
                *options,
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                f"--user-data-dir={profile}",
                f"--window-size={size[0]},{size[1]}",
                f"--virtual-time-budget={PATIENCE_MS}",
                f"--screenshot={picture}",
                address,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT_SECONDS,
        )
    print(f"wrote {picture.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
