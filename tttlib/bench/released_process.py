"""A released program in a process and an environment of its own, asked for one round at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DRIVER = Path(__file__).with_name("released_driver.py")
_WIDE = "robustbench/model_zoo/architectures/wide_resnet.py"
PROGRAMS = {  # option: name, the folder of the checkout to run in, files there that are called
    "palm": ("PALM", "classification", ("conf.py", "methods/ours.py", _WIDE)),
    "ttt-mae": ("TTT-MAE", "", ("engine_test_time.py", "models_mae_shared.py")),
}
Ask = Callable[[int], tuple[float, dict[str, Tensor]]]


@contextmanager
def running(
    option: str, checkout: Path, python: str, task: Mapping[str, Any], net: nn.Module, images: Any
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
    name, inside, files = PROGRAMS[option]
    root, versions, doing = checkout.resolve() / inside, "PyTorch not imported", "at its start"
    if missing := ", ".join(file for file in files if not (root / file).is_file()):
        raise ValueError(f"{root} has no {missing}: --{option} takes a checkout of {name}'s code")
    if (found := shutil.which(python)) is None:
        raise ValueError(f"--python {python} is not a program that can be started")
    with TemporaryDirectory() as folder, open(f"{folder}/log.txt", "w+b") as written:

        def receive() -> Any:
            assert process.stdout
            if line := process.stdout.readline():
                return json.loads(line)
            written.seek(0)
            lines = written.read().decode(errors="replace").split("\n")
            last = next((text.strip() for text in reversed(lines) if text.strip()), "no message")
            raise ValueError(
                f"the released {name} failed {doing} in {python} ({versions}): {last}. --python "
                "takes the interpreter of an environment that has what the checkout asks for"
            )

        def ask(number: int) -> tuple[float, dict[str, Tensor]]:
            assert process.stdin
            with suppress(BrokenPipeError):  # then the program has ended
                os.write(process.stdin.fileno(), f"{number}\n".encode())
            seconds = receive()
            with np.load(f"{folder}/answers.npz") as answers:
                return seconds, {name: torch.from_numpy(answers[name]) for name in answers.files}

        device, tf32 = next(net.parameters()).device.type, torch.backends.cuda.matmul.allow_tf32
        same = {"device": device, "threads": torch.get_num_threads(), "tf32": tf32}
        Path(folder, "task.json").write_text(json.dumps({**task, **same}), encoding="utf-8")
        weights: dict[str, Any] = {k: value.cpu().numpy() for k, value in net.state_dict().items()}
        np.savez(f"{folder}/arrays.npz", images=images.cpu().numpy(), **weights)
        command = [os.path.abspath(found), str(DRIVER), option, folder]
        with Popen(
            command, cwd=root, stdin=PIPE, stdout=PIPE, stderr=written, text=True
        ) as process:
            try:
                versions, doing = receive(), "to import or to take the weights"
                receive()
                doing = "in a round"
                yield versions, ask
            finally:
                process.kill()
