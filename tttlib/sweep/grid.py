"""A grid file and its units of work.

    notebook: "02"              # or experiment: standard, online, adaptation, source, or
                                # module:function of your own, from a file beside the grid or an
                                # installed package
    parameters: {n_images: 8}   # of all units
    grid: {corruption: [fog, snow], seed: [0, 1]}   # every combination; one unit each

Several of these: a list under `sweeps:`. A value that is itself a list stands as a list of lists.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tttlib.sweep import experiments
from tttlib.sweep.notebooks import find_notebook
from tttlib.sweep.parameters import declared_defaults, fitting
from tttlib.sweep.yaml_input import read_parameters

_ENTRY = ("notebook", "experiment", "parameters", "grid")


@dataclass(frozen=True)
class Unit:
    """A unit of work: one notebook or experiment with all its parameters.

    Attributes
    ----------
    experiment
        Name of the experiment, or "notebook STEM".
    parameters
        All parameters, with the defaults of those that the grid does not name.
    given
        The parameters that the grid names.
    varied
        Of these, what tells the units of one sweep apart.
    notebook
        Path of the notebook; empty for an experiment.
    uses
        "data NAME SPLIT" and "weights NAME" -> fingerprint, see `fingerprints`.
    folder
        Folder of the grid, which "module:function" may be imported from; empty otherwise.
    """

    experiment: str
    parameters: Mapping[str, Any]
    given: Mapping[str, Any]
    varied: Mapping[str, Any]
    notebook: str = ""
    uses: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def key(self) -> str:
        """16 hex digits of experiment, parameters and what it uses; not of the code."""
        from tttlib.results import unit_key

        named = ("experiment", "parameters", "uses")
        return unit_key({name: getattr(self, name) for name in named})

    @property
    def label(self) -> str:
        """The unit for people: standard corruption=fog seed=1."""
        return " ".join([self.experiment, *(f"{k}={v}" for k, v in self.varied.items())])

    def using(self, uses: Mapping[str, str]) -> Unit:
        """Return the unit with the fingerprints of what it uses."""
        return dataclasses.replace(self, uses=dict(uses))


def read_grid(path: str | Path) -> list[Unit]:
    """Return the units of a grid file, without the fingerprints of what they use.

    Raises
    ------
    ValueError
        For anything unknown or unfit in the file, before anything runs.
    """
    return expand(read_parameters(path), str(path), folder=Path(path).resolve().parent)


def expand(
    grid: Mapping[str, Any], where: str = "the grid", folder: Path | None = None
) -> list[Unit]:
    """Return the units of a grid, see the module's text.

    Parameters
    ----------
    grid
        The content of a grid file.
    where
        Begins the messages of ValueErrors.
    folder
        Folder whose modules "module:function" may name, beside those that are installed.
    """
    entries = grid.get("sweeps", [grid])
    if "sweeps" in grid and (len(grid) > 1 or not isinstance(entries, list) or not entries):
        raise ValueError(f"{where}: 'sweeps' is a list of sweeps and stands alone")
    units = [unit for entry in entries for unit in _entry(entry, where, folder)]
    if len(by_key := {unit.key: unit for unit in units}) < len(units):
        twice = next(unit for unit in units if by_key[unit.key] is not unit)
        raise ValueError(f"{where} has the unit {twice.label!r} twice; name each value once")
    return units


def _entry(entry: Any, where: str, folder: Path | None) -> list[Unit]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: a sweep has lines 'name: value', got {entry!r:.80}")
    for name in entry:
        if name not in _ENTRY:
            raise ValueError(f"{where}: unknown {name!r}; a sweep has {', '.join(_ENTRY)}")
    if ("notebook" in entry) == ("experiment" in entry):
        raise ValueError(f"{where}: a sweep names one notebook or one experiment")
    fixed, lists = _mapping(entry, "parameters", where), _mapping(entry, "grid", where)
    for name, values in lists.items():
        if name in fixed:
            raise ValueError(f"{where}: {name!r} stands in parameters and in grid; keep one")
        if not isinstance(values, list) or not values:
            raise ValueError(
                f"{where}: grid needs a list of values for {name!r}, got {values!r:.80}; "
                "a single value belongs to parameters"
            )
    combinations = itertools.product(*lists.values())
    varied: Sequence[dict[str, Any]] = [dict(zip(lists, v, strict=True)) for v in combinations]
    if "notebook" in entry:
        path = find_notebook(str(entry["notebook"]))
        return [of_notebook(path, {**fixed, **one}, one) for one in varied]
    experiment = experiments.find(str(entry["experiment"]), folder)
    own = str(folder) if ":" in experiment.name and folder is not None else ""
    return [u for one in varied for u in _of_experiment(experiment, {**fixed, **one}, one, own)]


def of_notebook(
    path: Path, given: Mapping[str, Any], varied: Mapping[str, Any] | None = None
) -> Unit:
    """Return a notebook with these parameters as a unit.

    Raises
    ------
    ValueError
        For parameters that the notebook does not take, and for `run_dir`, which is set.
    """
    defaults = declared_defaults(path)
    defaults.pop("run_dir", None)
    if "run_dir" in given:
        raise ValueError("run_dir is every unit's own folder; leave it out")
    given = fitting(path.name, defaults, given)
    return Unit(f"notebook {path.stem}", {**defaults, **given}, given, varied or {}, str(path))


def _mapping(entry: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    values = entry.get(name)
    if values is not None and not isinstance(values, Mapping):
        raise ValueError(f"{where}: {name} holds lines 'name: value', got {values!r:.80}")
    return dict(values or {})


def _of_experiment(
    experiment: experiments.Experiment, given: dict[str, Any], varied: dict[str, Any], folder: str
) -> list[Unit]:
    given = fitting(f"experiment {experiment.name}", experiment.defaults, given)
    parameters = {**experiment.defaults, **given}
    return [
        Unit(experiment.name, {**parameters, **p}, {**given, **p}, {**varied, **p}, folder=folder)
        for p in experiment.parts(parameters)
    ]
