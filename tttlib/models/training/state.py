"""The checkpoint of a training run: weights, optimiser and position."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tttlib.models.training.recipes import Recipe
from tttlib.runtime.files import atomic_write

log = logging.getLogger(__name__)


class TrainingState:
    """What a killed run needs to go on, kept in one file that is written whole or not at all."""

    def __init__(self, path: Path, recipe: Recipe, seconds: float) -> None:
        self.path, self.recipe, self.seconds = path, recipe, seconds
        self.losses: list[list[float]] = [[] for _ in recipe.phases]
        self._resume: dict[str, Any] | None = None
        self._saved = time.monotonic()

    def load(self, model: Any, device: torch.device) -> int:
        """Set the weights of `model` and return the number of the phase to go on with.

        A file that cannot be read is said, and training starts anew.

        Raises
        ------
        ValueError
            For a state of other settings.
        """
        if not self.path.is_file():
            return 0
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            if state["recipe"] == repr(self.recipe):
                self._check(state, model.state_dict())
        except MemoryError:
            raise
        except Exception as error:  # whatever a damaged file provokes in the reader
            reason = str(error).partition("\n")[0][:100] or type(error).__name__
            log.warning("%s cannot be used (%s); training starts anew", self.path, reason)
            return 0
        if state["recipe"] != repr(self.recipe):
            raise ValueError(
                f"{self.path} belongs to a run with other settings; delete it or train elsewhere"
            )
        model.load_state_dict(state["model"])
        self.losses, self._resume = state["losses"], state
        log.info("resuming %s: phase %d step %d", self.recipe.name, state["phase"], state["step"])
        return int(state["phase"])

    def enter(self, phase: int, optimizer: torch.optim.Optimizer) -> int:
        """Set the state of `optimizer` and return the step of this phase to go on with."""
        if self._resume is None or self._resume["phase"] != phase:
            return 0
        optimizer.load_state_dict(self._resume["optimizer"])
        step, self._resume = int(self._resume["step"]), None
        return step

    def note(self, phase: int, losses: Tensor) -> float:
        """Keep and return the mean of the last losses; raise a ValueError when it is not finite."""
        mean = losses.mean().item()
        if not math.isfinite(mean):
            raise ValueError(
                f"{self.recipe.name}: the loss became {mean} in phase {phase}; lower the lr "
                f"(the last good state is {self.path})"
            )
        self.losses[phase].append(round(mean, 4))
        return mean

    def save(self, model: Any, optimizer: Any, phase: int, step: int, force: bool = False) -> None:
        """Write the file when the time has come or `force` says so."""
        if not force and time.monotonic() - self._saved < self.seconds:
            return
        place = {"recipe": repr(self.recipe), "phase": phase, "step": step}
        learned = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        state = {**place, **learned, "losses": self.losses}
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)
        self._saved = time.monotonic()

    def _check(self, state: dict[str, Any], expected: dict[str, Tensor]) -> None:
        """Raise a ValueError unless a checkpoint holds everything that going on needs."""
        weights, phases = state["model"], len(self.recipe.phases)
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in expected.items()}:
            raise ValueError("its weights are not those of the recipe")
        if not (0 <= state["phase"] < phases == len(state["losses"]) and state["step"] >= 0):
            raise ValueError(f"phase {state['phase']} of {phases}, step {state['step']}")
        if not {"state", "param_groups"} <= state["optimizer"].keys():
            raise ValueError("its optimizer has no state")
