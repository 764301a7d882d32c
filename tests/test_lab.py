"""JupyterLab as a reader finds it, in a real browser: cells run, and the picture follows a slider.

Needs Debian's chromium and chromium-driver, or another Chromium with its driver on the path.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nbformat
import papermill
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from test_notebooks import TINY

from tttlib import sweep

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
TOUCHED = {
    "02_mae_ttt_replication": ["image", "corruption", "lr", "steps", "masks"],
    "04_bounding_box_errors": ["size", "outcome"],
    "05_palm_continual_adaptation": ["method", "corruption", "stream"],
    "07_where_palm_stands": ["stream"],
}
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="needs chromium and chromedriver on the path"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks with tiny parameters, as a reader may have changed them."""
    folder = tmp_path_factory.mktemp("lab")
    for name, parameters in TINY.items():
        given = {**parameters, "run_dir": str(folder / "run")}
        path = sweep.find_notebook(name)
        papermill.execute_notebook(
            path, folder / path.name, given, prepare_only=True, progress_bar=False,
            kernel_name="python3", language="python",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """Address of a JupyterLab that serves the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    home = folder / ".home"  # settings and workspaces of the user stay out of it
    places = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    places["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "workspaces")
    log = (folder / "lab.log").open("w")
    process = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log)
    try:
        wait(lambda: served(f"http://127.0.0.1:{port}/api"), 60, "JupyterLab to answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, "--window-size=1400,1600"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


def served(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(StaleElementReferenceException):  # drawn anew while it was looked at
            if found := condition():
                return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {what}")


def run_all(browser: Any, address: str, seconds: float = 300) -> None:
    """Open a notebook and run all of its cells, as by the menu."""
    browser.get(address)
    css = (By.CSS_SELECTOR,)

    def idle() -> bool:
        words = browser.find_elements(*css, ".jp-Notebook-ExecutionIndicator")
        return any(one.get_attribute("data-status") == "idle" for one in words)

    def done() -> bool:
        """Idle, and no code cell in sight waits: just after the start a kernel is idle too."""
        prompts = browser.find_elements(*css, ".jp-CodeCell .jp-InputPrompt")
        seen = [prompt.text for prompt in prompts if prompt.is_displayed()]
        return idle() and bool(seen) and all(re.match(r"\[\d+\]", text) for text in seen)

    def click(selector: str, label: str) -> bool:
        for item in browser.find_elements(*css, selector):
            if item.is_displayed() and item.text.strip() == label:
                item.click()
                return True
        return False

    wait(idle, 90, "an idle kernel")
    wait(lambda: click(".lm-MenuBar-itemLabel", "Run"), 30, "the menu Run")
    wait(lambda: click(".lm-Menu-itemLabel", "Run All Cells"), 30, "Run All Cells")
    wait(done, seconds, "the cells to end")


def outputs(browser: Any, kind: str) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, f'.jp-OutputArea-output[data-mime-type="{kind}"]')


def needed(cells: Sequence[Any]) -> list[Any]:
    """The cells that bind or fill what the last one uses, and so on backwards, in their order."""
    wanted: set[str] = set()
    kept: list[Any] = []
    for cell in reversed(cells):
        nodes = [*ast.walk(ast.parse(cell.source))]
        used = {n.id for n in nodes if isinstance(n, ast.Name)}
        filled = [n for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
        made = {n.value.id for n in filled if isinstance(n.value, ast.Name)}
        made |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        made |= {n.asname or n.name for n in nodes if isinstance(n, ast.alias)}
        made |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
        targets = [n.target for n in nodes if isinstance(n, ast.comprehension)]
        inner = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        if not kept or (made - inner) & wanted:
            kept.append(cell)
            wanted |= used - inner
    return kept[::-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TINY if not name.startswith("01")])
def test_every_notebook_runs_from_a_fresh_kernel(
    browser: Any, server: str, folder: Path, name: str
) -> None:
    run_all(browser, f"{server}/lab/tree/{name}.ipynb?reset")
    assert not outputs(browser, "application/vnd.jupyter.error")
    browser.save_screenshot(str(folder / f"{name}.png"))


def test_the_picture_follows_the_sliders(browser: Any, server: str, folder: Path) -> None:
    run_all(browser, f"{server}/lab/tree/01_distribution_shift_pca.ipynb?reset")
    assert not outputs(browser, "application/vnd.jupyter.error")
    assert not outputs(browser, "application/vnd.jupyter.stderr")
    panel = browser.find_element(By.CSS_SELECTOR, ".jp-WindowedPanel-outer")

    def picture() -> Any:  # cells are drawn when they come into view
        browser.execute_script("arguments[0].scrollTop += 400", panel)
        found = browser.find_elements(By.CSS_SELECTOR, ".widget-vbox img.widget-image")
        return found[0] if found else None

    browser.execute_script("arguments[0].scrollTop = 0", panel)
    image = wait(picture, 60, "the widget")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)

    def bytes_of() -> str:
        return browser.execute_script(
            "const c = document.createElement('canvas'), i = arguments[0];"
            "c.width = i.naturalWidth; c.height = i.naturalHeight;"
            "c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL()",
            browser.find_element(By.CSS_SELECTOR, ".widget-vbox img.widget-image"),
        )

    before = bytes_of()
    assert len(before) > 5000  # a picture, no empty canvas
    handle = browser.find_elements(By.CSS_SELECTOR, ".widget-vbox .noUi-handle")[-1]
    handle.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: bytes_of() != before, 30, "another picture after a TTT step")
    browser.save_screenshot(str(folder / "widget.png"))


@pytest.mark.parametrize("name", TOUCHED)
def test_the_picture_follows_each_control(
    browser: Any, server: str, folder: Path, name: str
) -> None:
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (last,) = [i for i, cell in enumerate(code) if "plots.touch(" in cell.source]
    notebook.cells = needed(code[: last + 1])
    for cell in notebook.cells:
        cell.update(outputs=[], execution_count=None)
    nbformat.write(notebook, folder / f"touch_{name}.ipynb")
    run_all(browser, f"{server}/lab/tree/touch_{name}.ipynb?reset", 600)
    assert not outputs(browser, "application/vnd.jupyter.error")

    def row(what: str) -> Any:
        """The control of this name, once it stands there: JupyterLab draws outputs anew."""
        xpath = f"//*[contains(@class, 'widget-inline-hbox')][label='{what}']"
        found = browser.find_elements(By.XPATH, xpath)
        return found[0] if found else None

    def picture() -> str:
        shown = "[...document.querySelectorAll('.jp-RenderedImage img')]"
        return browser.execute_script(f"return {shown}.map(image => image.src).pop() || ''")

    wait(lambda: row(TOUCHED[name][-1]) and len(picture()) > 5000, 60, "controls and picture")
    seen = [picture()]
    for what in TOUCHED[name]:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row(what))
        if menus := row(what).find_elements(By.CSS_SELECTOR, "select"):
            menu = Select(menus[0])
            end = len(menu.options) - 1
            menu.select_by_index(0 if menu.options[end].is_selected() else end)
        else:
            handles = row(what).find_elements(By.CSS_SELECTOR, ".noUi-handle")
            handles[-1].send_keys(Keys.ARROW_RIGHT)
        wait(lambda: picture() not in seen, 60, f"another picture after a change of {what}")
        seen.append(picture())
        browser.save_screenshot(str(folder / f"{name}_{what}.png"))
