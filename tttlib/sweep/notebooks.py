"""Running notebooks with other parameters, headlessly (papermill).

A notebook's parameters are the assignments of its cell tagged `parameters`. That cell is read with
`ast`, because papermill only warns of an unknown name and does not see every default.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tttlib.runtime import paths


class NotebookError(Exception):
    """A cell of a notebook failed; says which, and where the executed notebook lies."""


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number (YAML 1.1 takes it for a string)."""


_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def run_notebook(
    path: str | Path,
    output_folder: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: bool = True,
    line: int | None = None,
    timeout: int | None = None,
) -> Path:
    """Execute a notebook in its own folder; returns the executed copy <output_folder>/<stem>.ipynb.

    parameters  replace the notebook's defaults of the same names; relative paths in them, and in
                $TTTLIB_DATA and $TTTLIB_CACHE, are meant from the current folder
    progress    show a bar over the cells, on that `line` of the terminal (None: the next free one)
    timeout     seconds that one cell may take

    While it runs, the copy is called <stem>.partial.ipynb and holds the cells done so far; it keeps
    that name when the run is interrupted (Ctrl-C, which stops the kernel too, or a kill). Raises
    ValueError before anything runs for a missing notebook, an unknown parameter or a value of
    another type than the default; NotebookError when a cell fails, and the copy with the traceback
    is then called <stem>.failed.ipynb.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    path = Path(path).resolve()
    check_parameters(path, parameters or {})
    for name in ("TTTLIB_DATA", "TTTLIB_CACHE"):  # the kernel runs in the notebook's folder
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())
    bar = {"desc": path.stem, "leave": False, "position": line}
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["papermill"] = {}
    folder = Path(output_folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    final, partial, failed = (
        folder / f"{path.stem}{suffix}.ipynb" for suffix in ("", ".partial", ".failed")
    )
    failed.unlink(missing_ok=True)
    logger = logging.getLogger("papermill")  # false alarms of unknown parameters; errors are raised
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    # After Ctrl-C the broken-off cell is nobody's any more: asyncio would report it at the exit.
    logging.getLogger("asyncio").addFilter(_is_no_dead_kernel)
    try:
        papermill.execute_notebook(
            notebook,
            str(partial).replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
            paths.from_here(parameters or {}),
            kernel_name="python3",
            language="python",
            cwd=path.parent,
            progress_bar=bar if progress else False,
            request_save_on_cell_execute=True,
            execution_timeout=timeout,
            extra_arguments=["--log-level=CRITICAL"],  # the kernel's own talk, not the notebook's
        )
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        what = f"cell [{error.exec_count}] ({_first_line(error.source)}) failed with {error.ename}"
        raise NotebookError(f"{path.name}: {what}: {error.evalue}; see {failed}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        os.replace(partial, failed)
        what = f"{type(error).__name__}: {_first_line(str(error))}"
        raise NotebookError(f"{path.name}: {what}; see {failed}") from error
    finally:
        logger.setLevel(level)
    os.replace(partial, final)
    return final


def notebooks_folder() -> Path:
    """The repository's notebooks: beside this package (editable install), else ./notebooks.

    Raises ValueError when neither exists.
    """
    candidates = [Path(__file__).resolve().parents[2] / "notebooks", Path.cwd() / "notebooks"]
    for folder in candidates:
        if any(folder.glob("*.ipynb")):
            return folder
    looked = " and ".join(map(str, candidates))
    raise ValueError(f"found no notebooks in {looked}; run this in a checkout of the repository")


def find_notebook(name: str | Path, folder: str | Path | None = None) -> Path:
    """A notebook by path, by name (with or without .ipynb) or by the beginning of its name.

    Raises ValueError, listing the notebooks there are, when that is none or several.
    """
    path = Path(name)
    if path.is_file():
        return path.resolve()
    folder = Path(folder) if folder is not None else notebooks_folder()
    known = {p.stem: p for p in sorted(folder.glob("*.ipynb"))}
    wanted = str(name).removesuffix(".ipynb")
    found = [wanted] if wanted in known else [s for s in known if wanted and s.startswith(wanted)]
    if len(found) != 1:
        what = f"is ambiguous: {', '.join(found)}" if found else "does not exist"
        raise ValueError(
            f"notebook {str(name)!r} {what}; {folder} has {', '.join(known) or 'none'}"
        )
    return known[found[0]].resolve()


def declared_parameters(path: str | Path) -> dict[str, str]:
    """Name -> source text of the default, of every parameter a notebook declares.

    Raises ValueError for a missing file, one that is no notebook, and one without exactly one cell
    tagged `parameters`.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.ipynb")) if path.parent.is_dir() else []
        raise ValueError(
            f"no notebook {path}; {path.parent} has {', '.join(known) or 'no notebooks'}"
        )
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no notebook ({error})") from error
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{path.name} has {len(tagged)} cells tagged 'parameters', needs one")
    declared: dict[str, str] = {}
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        elif isinstance(statement, ast.Assign):
            targets, value = list(statement.targets), statement.value  # type: ignore[arg-type]
        else:
            continue
        declared |= {t.id: ast.unparse(value) for t in targets if isinstance(t, ast.Name)}
    return declared


def declared_defaults(path: str | Path) -> dict[str, Any]:
    """Name -> default of every parameter a notebook declares; of an expression, its `Source`."""
    defaults: dict[str, Any] = {}
    for name, source in declared_parameters(path).items():
        try:
            defaults[name] = ast.literal_eval(source)
        except ValueError:
            defaults[name] = Source(source)
    return defaults


class Source(str):
    """The source text of a default that is no literal: any value can take its place."""


def check_parameters(path: str | Path, parameters: Mapping[str, Any]) -> None:
    """ValueError, listing what is legal, when a notebook does not take these parameters."""
    fitting(Path(path).name, declared_defaults(path), parameters)


def fitting(what: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, with whole numbers as floats where the default is one.

    what  who takes these parameters, for the message
    Raises ValueError, listing what is legal, for an unknown name or a value of another type.
    """
    fitted = {}
    for name, value in given.items():
        if name not in defaults:
            told = (f"{n} = {d if isinstance(d, Source) else repr(d)}" for n, d in defaults.items())
            raise ValueError(
                f"{what} has no parameter {name!r}; it has (with defaults) {', '.join(told)}"
            )
        default = defaults[name]
        if not isinstance(default, Source) and not _fits(value, default):
            raise ValueError(
                f"parameter {name!r} of {what} cannot be {value!r}: it needs a "
                f"{type(default).__name__} such as {default!r}"
            )
        whole = isinstance(value, int) and not isinstance(value, bool)
        fitted[name] = float(value) if whole and isinstance(default, float) else value
    return fitted


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Parameters of a YAML file (name: value). ValueError names the file when it is none."""
    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.name for p in Path(path).parent.glob("*.yaml"))) or "none"
        raise ValueError(f"no parameter file {path}; its folder has {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} must hold lines 'name: value', got {found!r:.80}")
    return found


def parse_value(text: str) -> Any:
    """The value of a YAML scalar or list given on the command line: 8, 1e-3, true, [a, b], text.

    Raises ValueError for a text that is no YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"value {text!r} is no YAML: {' '.join(str(error).split())}") from error


def _fits(value: Any, default: Any) -> bool:
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))


def _is_no_dead_kernel(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None  # asyncio says False for none
    return type(error).__name__ != "DeadKernelError"


def _first_line(text: str) -> str:
    """The first line that says something (marks for nbval do not)."""
    lines = [line for line in text.splitlines() if line.strip() and "# NBVAL" not in line]
    return lines[0] if lines else ""
