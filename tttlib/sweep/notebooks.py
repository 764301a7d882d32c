"""Finding notebooks, and running them headlessly with other parameters (papermill)."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime import paths
from tttlib.sweep.parameters import check_parameters


class NotebookError(Exception):
    """A cell of a notebook failed; the message says which, and where the executed copy lies."""


def run_notebook(
    path: str | Path,
    output_folder: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: bool = True,
    line: int | None = None,
    timeout: int | None = None,
) -> Path:
    """Execute a notebook in its own folder, with a kernel of this interpreter.

    Parameters
    ----------
    path
        The notebook.
    output_folder
        Gets the executed copy, <stem>.ipynb. While the notebook runs the copy is called
        <stem>.partial.ipynb and holds the cells done so far; it keeps that name when the run is
        interrupted (Ctrl-C, which stops the kernel too, or a kill).
    parameters
        Replace the notebook's defaults of the same names. Relative paths in them, and in
        $TTTLIB_DATA and $TTTLIB_CACHE, are meant from the current folder.
    progress
        Whether to show a bar over the cells.
    line
        Line of the terminal for the bar; None takes the next free one.
    timeout
        Seconds that one cell may take.

    Returns
    -------
    Path
        The executed copy.

    Raises
    ------
    ValueError
        Before anything runs: for a missing notebook, an unknown parameter, or a value of another
        type than the default.
    NotebookError
        When a cell fails. The copy with the traceback is then called <stem>.failed.ipynb.
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
            kernel_manager_class=_own_kernel(),
            extra_arguments=["--log-level=CRITICAL"],  # the kernel's own talk, not the notebook's
        )
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        cell = f"cell [{error.exec_count}] ({_first_line(error.source)}) failed with {error.ename}"
        raise NotebookError(f"{path.name}: {cell}: {error.evalue}; see {failed}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        os.replace(partial, failed)
        problem = f"{type(error).__name__}: {_first_line(str(error))}"
        raise NotebookError(f"{path.name}: {problem}; see {failed}") from error
    finally:
        logger.setLevel(level)
    os.replace(partial, final)
    return final


def notebooks_folder() -> Path:
    """Return the folder of the study's notebooks: beside this package, else ./notebooks.

    Raises
    ------
    ValueError
        If neither has notebooks.
    """
    candidates = [Path(__file__).resolve().parents[2] / "notebooks", Path.cwd() / "notebooks"]
    for folder in candidates:
        if any(folder.glob("*.ipynb")):
            return folder
    looked = " and ".join(map(str, candidates))
    raise ValueError(f"found no notebooks in {looked}; run this in a checkout of the repository")


def find_notebook(name: str | Path, folder: str | Path | None = None) -> Path:
    """Find a notebook by path, by name (with or without .ipynb), or by the beginning of its name.

    Raises
    ------
    ValueError
        If that is none or several; the message lists the notebooks there are.
    """
    path = Path(name)
    if path.is_file():
        return path.resolve()
    folder = Path(folder) if folder is not None else notebooks_folder()
    known = {p.stem: p for p in sorted(folder.glob("*.ipynb"))}
    wanted = str(name).removesuffix(".ipynb")
    stems = [wanted] if wanted in known else [s for s in known if wanted and s.startswith(wanted)]
    if len(stems) != 1:
        problem = f"is ambiguous: {', '.join(stems)}" if stems else "does not exist"
        raise ValueError(
            f"notebook {str(name)!r} {problem}; {folder} has {', '.join(known) or 'none'}"
        )
    return known[stems[0]].resolve()


@functools.cache
def _own_kernel() -> type:
    """Return a kernel manager that starts this interpreter.

    The kernel called python3 may be that of another Python: module systems and earlier
    installations put theirs on $JUPYTER_PATH or into the user's folder.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class OwnKernel(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return OwnKernel


def _is_no_dead_kernel(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None  # asyncio says False for none
    return type(error).__name__ != "DeadKernelError"


def _first_line(text: str) -> str:
    """Return the first line that says something (marks for nbval do not)."""
    lines = [line for line in text.splitlines() if line.strip() and "# NBVAL" not in line]
    return lines[0] if lines else ""
