"""Runs a released program in its own environment, a round for every line on stdin.

It imports NumPy, PyTorch and the checkout in the current folder, nothing of tttlib, and runs on
Python 3.8. The released classes stay as they are, but what they draw is written down.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from typing import Any

import numpy as np
import torch


def clock(device: str) -> float:
    """Return the time, when all that is queued on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def palm(task: Any, state: Any, images: Any) -> Any:
    """Return how to run PALM: round n adapts to batch n, round -1 to small ones in float64.

    The network is the checkout's WideResNet or torchvision's ResNet-50.
    """
    device, sizes, zoo = task["device"], task["sizes"], "robustbench.model_zoo.architectures."
    if device == "cpu":  # the released class puts an integer on the GPU
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    cfg = importlib.import_module("conf").cfg
    method = importlib.import_module("methods.ours").OURS
    for section, values in task["cfg"].items():
        for name, value in values.items():
            setattr(getattr(cfg, section), name, value)

    def adapter(dtype: torch.dtype) -> Any:
        if sizes["family"] == "wide_resnet":
            wide = importlib.import_module(zoo + "wide_resnet").WideResNet
            net = wide(sizes["depth"], sizes["num_classes"], sizes["width"])
        else:
            net = importlib.import_module("torchvision.models").resnet50()
        net.load_state_dict(state)
        if task["normalise"]:
            normalise = importlib.import_module(zoo + "utils_architectures").normalize_model
            net = normalise(net, *task["normalise"])
        net = net.to(device=device, dtype=dtype).eval()
        return method(cfg=cfg, model=net, num_classes=sizes["num_classes"])

    images, stream = images.to(device), adapter(torch.float32)

    def run(number: int) -> Any:
        adapted, batches, logits, views = stream, images[number : number + 1], [], []
        if number < 0:
            adapted, batches = adapter(torch.float64), images[:3, :16].double()
            draw = adapted.transforms

            def recorded(x: torch.Tensor) -> torch.Tensor:
                views.append(draw(x.float()).to(x.dtype))
                return views[-1]

            adapted.transforms = recorded
        start = clock(device)
        with torch.no_grad():  # as the released evaluation has it
            for batch in batches:
                logits.append(adapted([batch]).detach())
        seconds = clock(device) - start
        return seconds, {"logits": torch.stack(logits), "views": torch.stack(views or logits)}

    return run


def ttt_mae(task: Any, state: Any, images: Any) -> Any:
    """Return how to run TTT-MAE: every round adapts to all images in the released loop.

    The time is from the first image on; the summary, which insists on 50,000 images, is left out.
    """
    device, given, named = task["device"], task["args"], task["network"]
    args = argparse.Namespace(**given, output_dir=task["folder"], mask_ratio=0.75, rec_loss=True)
    args.head_type, args.norm_pix_loss = named["head_type"], named["norm_pix_loss"]
    args.optimizer_type, args.optimizer_momentum, args.finetune_mode = "sgd", 0.9, "encoder"
    args.accum_iter, args.num_workers, args.stored_latents = 1, 0, ""
    args.verbose = args.load_loss_scalar = False
    engine: Any = importlib.import_module("engine_test_time")
    engine.save_accuracy_results = lambda args: None
    model = getattr(importlib.import_module("models_mae_shared"), args.model)(**named)
    model.load_state_dict(state)
    kind, starts, logits, orders = type(model), [], [], []
    forward, masking = kind.forward, kind.random_masking

    def recorded_forward(self: Any, *given: Any, **named: Any) -> Any:
        answer = forward(self, *given, **named)
        logits.extend([] if answer[3] is None else [answer[3].detach()])
        return answer

    def recorded_masking(self: Any, *given: Any) -> Any:
        masked = masking(self, *given)
        orders.append(masked[2].argsort(1))
        return masked

    kind.forward, kind.random_masking = recorded_forward, recorded_masking

    class Images(list):
        def __getitem__(self, index: Any) -> Any:
            starts.append(clock(device))
            return super().__getitem__(index)

    once = Images((image[None], 0) for image in images)
    copies = [(image.expand(args.batch_size, -1, -1, -1), 0) for image in images]
    train = [pair for pair in copies for _ in range(args.steps_per_example)]

    def run(number: int) -> Any:
        del starts[:], logits[:], orders[:]
        where, classes = torch.device(device), named["num_classes"]
        engine.train_on_test(model, None, None, train, once, where, None, args, classes)
        seconds, shape = clock(device) - starts[0], (len(images), args.steps_per_example)
        drawn = torch.stack(orders).view(*shape, args.batch_size, -1)
        return seconds, {"logits": torch.cat(logits).view(*shape, -1), "orders": drawn}

    return run


def main(program: str, folder: str) -> None:
    """Say which versions these are, prepare the program, and answer every line with a line."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the program prints goes to the log

    def reply(value: Any) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    reply("Python %s, PyTorch %s" % (platform.python_version(), torch.__version__))  # noqa: UP031
    sys.path[:] = [os.getcwd()] + [p for p in sys.path if p != os.path.dirname(__file__)]
    with open(os.path.join(folder, "task.json"), encoding="utf-8") as file:
        task = dict(json.load(file), folder=folder)
    torch.set_num_threads(task["threads"])
    torch.backends.cuda.matmul.allow_tf32 = task["tf32"]
    torch.backends.cudnn.benchmark = True  # as the released programs set it
    torch.manual_seed(0)
    arrays = {k: torch.from_numpy(v) for k, v in np.load(folder + "/arrays.npz").items()}
    images = arrays.pop("images")
    run = {"palm": palm, "ttt-mae": ttt_mae}[program](task, arrays, images)
    reply("ready")
    for line in sys.stdin:
        seconds, answers = run(int(line))
        saved = {name: value.cpu().numpy() for name, value in answers.items()}
        np.savez(folder + "/answers.npz", **saved)
        reply(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
