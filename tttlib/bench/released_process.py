"""A released program in a process and an environment of its own, asked for one round at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

_DRIVER = Path(__file__).with_name("released_driver.py")


class Program(NamedTuple):
    """A released program: its option, the folder it runs in, and the files that are called."""

    name: str
    option: str
    folder: str
    files: tuple[str, ...]


_WIDE = "robustbench/model_zoo/architectures/wide_resnet.py"
_MAE = ("engine_test_time.py", "models_mae_shared.py")
PROGRAMS = {
    "palm": Program("PALM", "--palm", "classification", ("conf.py", "methods/ours.py", _WIDE)),
    "ttt_mae": Program("TTT-MAE", "--ttt-mae", ".", _MAE),
}
Ask = Callable[[int], tuple[float, dict[str, Tensor]]]


@contextmanager
def running(
    key: str, checkout: Path, python: str, task: Mapping[str, Any], net: nn.Module, images: Tensor
) -> Iterator[tuple[str, Ask]]:
    """Run one of `PROGRAMS` on a network's weights and on images while the context lasts.

    Yields
    ------
    tuple
        The versions of its environment, and a function from the number of a round to its seconds
        and answers by name.

    Raises
    ------
    ValueError
        For a checkout without the files that are called, an interpreter that cannot be started, and
        a program that fails at any time: with the last line that it wrote.
    """
    name, option, inside, files = PROGRAMS[key]
    root, versions, doing = checkout.resolve() / inside, "PyTorch not imported", "at its start"
    if missing := [file for file in files if not (root / file).is_file()]:
        raise ValueError(
            f"{root} has no {', '.join(missing)}: {option} takes a checkout of the released {name}"
        )
    if (found := shutil.which(python)) is None:
        raise ValueError(f"--python {python} is not a program that can be started")
    with TemporaryDirectory() as temporary, open(f"{temporary}/log.txt", "w+b") as log:

        def receive() -> Any:
            assert process.stdout
            if line := process.stdout.readline():
                return json.loads(line)
            log.seek(0)
            lines = log.read().decode(errors="replace").split("\n")
            last = next((text.strip() for text in reversed(lines) if text.strip()), "no message")
            raise ValueError(
                f"the released {name} failed {doing} in {python} ({versions}): {last}. --python "
                "takes the interpreter of an environment that has what the checkout asks for"
            )

        def ask(number: int) -> tuple[float, dict[str, Tensor]]:
            assert process.stdin
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            seconds = receive()
            with np.load(f"{temporary}/answers.npz") as answers:
                return seconds, {name: torch.from_numpy(answers[name]) for name in answers.files}

        device, tf32 = next(net.parameters()).device.type, torch.backends.cuda.matmul.allow_tf32
        own = {"device": device, "threads": torch.get_num_threads(), "tf32": tf32}
        Path(temporary, "task.json").write_text(json.dumps({**task, **own}), encoding="utf-8")
        arrays = {name: value.cpu().numpy() for name, value in net.state_dict().items()}
        np.savez(f"{temporary}/arrays.npz", images=images.cpu().numpy(), **arrays)  # type: ignore[arg-type]
        command, pipe = [os.path.abspath(found), str(_DRIVER), key, temporary], subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=root, stdin=pipe, stdout=pipe, stderr=log, text=True
        )
        with process:
            try:
                versions, doing = receive(), "to import or to take the weights"
                receive()
                doing = "in a round"
                yield versions, ask
            finally:
                process.kill()
