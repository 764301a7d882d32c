"""The reconstruction of DSS against its equations in a plain loop."""

from __future__ import annotations

import torch
from small_networks import Different, batch_statistics, convolutional
from small_networks import exact_images as images

from tttlib import adapt


def test_equals_the_loop() -> None:
    model, batches = convolutional(), [images(6, seed) for seed in range(4)]
    student, teacher = batch_statistics(model), batch_statistics(model)
    optimizer, augment = torch.optim.Adam(student.parameters(), lr=1e-3), Different()
    views = {"confidence": 2, "n_augmentations": 3, "augment": Different()}
    how = {"restore": 0, "teacher_momentum": 0.9, "threshold_momentum": 0.7, **views}
    adapter = adapt.create("dss", model, **how)
    tau = None
    for x in batches:
        z = student(x)
        with torch.no_grad():
            target = torch.stack([teacher(augment(x)) for _ in range(3)]).mean(0)
        soft, p = target.softmax(1), z.softmax(1)
        mean = soft.max(1).values.mean()
        tau = mean if tau is None else 0.7 * tau + 0.3 * mean
        loss = torch.zeros((), dtype=torch.float64)
        for b in range(len(x)):
            if soft[b].max() >= tau:
                loss = loss - (soft[b] * p[b].log()).sum()
            unlikely = [c for c in range(soft.shape[1]) if soft[b, c] < 1 / soft.shape[1]]
            for c in unlikely:
                loss = loss - torch.log(1 - p[b, c] + 1e-8) / len(unlikely)
        optimizer.zero_grad()
        (loss / len(x)).backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
        torch.testing.assert_close(adapter(x), target, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(adapter.diagnostics["loss"], loss.detach() / len(x))
        torch.testing.assert_close(adapter.diagnostics["threshold"], tau)
        assert 0 < adapter.diagnostics["high"] < len(x)
