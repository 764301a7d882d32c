"""One self-contained HTML page of a run: what was decided, figures, every executed notebook.

Nothing is fetched when the page is opened: images are data URIs, there is no script, and pictures
that a notebook takes from the net become links. The markup is in ``page.html.jinja2``, which
escapes every value except the HTML that nbconvert and Pygments made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from tttlib.report.executed_notebooks import highlighting, section
from tttlib.report.figures import figures_of
from tttlib.results import Store
from tttlib.runtime import files
from tttlib.tables import answers, claims

TITLE = "Test-time training and continual adaptation: the study"


def write(run: Path, record: Mapping[str, Any], notebooks: Sequence[Path]) -> Path:
    """Write ``<run>/index.html`` from what the run holds.

    Parameters
    ----------
    run
        Folder of the run, with notebooks/, results/, figures/ and tables/.
    record
        The content of the run's study.json: environment, seconds per notebook, peak memory,
        parameters.
    notebooks
        The source notebooks in order. Their executed copies lie in ``<run>/notebooks``; pictures
        that their text refers to are taken from beside the sources.

    Returns
    -------
    Path
        The path of the page.
    """
    page = run / "index.html"
    files.write(page, render(run, record, notebooks))
    return page


def render(run: Path, record: Mapping[str, Any], notebooks: Sequence[Path]) -> str:
    """Return the page that `write` writes."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tttlib.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [section(run, path, record["seconds"].get(path.stem)) for path in notebooks]
    return environment.get_template("page.html.jinja2").render(
        title=TITLE,
        highlighting=highlighting(),
        run=run.name,
        record=record,
        sections=sections,
        by_number={notebook.number: notebook for notebook in sections},
        findings=_findings(run),
        figures=figures_of(run),
        facts=_facts(record),
    )


def _findings(run: Path) -> dict[str, list[dict[str, Any]]] | None:
    """Tell the claims that the run makes: all of them, the decided and the undecided ones."""
    try:
        table = claims.collect(Store(run / "results"))
    except FileNotFoundError:
        return None
    told: list[dict[str, Any]] = []
    for _, row in table.iterrows():
        claim = claims.of_row(row)
        words = {"statement": answers.statement(claim), "became": answers.became(claim)}
        told.append({**row, **words})
    undecided = [row for row in told if row["verdict"] == "undecided"]
    decided = [row for row in told if row["verdict"] != "undecided"]
    return {"all": told, "decided": decided, "undecided": undecided}


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """Describe how the run was made."""
    origin = record["environment"]
    code = (origin["git_sha"] or "no git checkout") + (" with changes" * bool(origin["git_dirty"]))
    memory, at_once = record["peak_memory_bytes"], origin["notebooks_at_once"]
    device = f"{origin['device']}, {origin['threads']} threads"
    parameters = ", ".join(f"{name} = {value}" for name, value in record["parameters"].items())
    return {
        "started": record["started"],
        "finished": record["finished"],
        "code": code,
        "device": device + f" shared by {at_once} notebooks at once" * (at_once > 1),
        "platform": origin["platform"],
        "python": origin["python"],
        **origin["versions"],
        "parameters": parameters or "defaults",
        "peak memory": f"{memory / 2**30:.2f} GB" if memory else "not measured",
        "time in all": f"{record['wall_seconds']:.0f} s",
        **{f"time of {name}": f"{s:.0f} s" for name, s in record["seconds"].items()},
    }
