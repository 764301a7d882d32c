"""Learning rates from the sensitivity of tensors: what PALM and its form for autoencoders share.

Maharana, Zhang and Guo, PALM, AAAI 2025, arXiv 2403.10650, equations 4 to 7. The state lies in the
memory of an adapter: "sensitivity" (E of each tensor), "importance" (i, of each tensor or element)
and "known" (whether a tensor was ever selected).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tttlib.adapt.common.optimizers import EPS


@torch.no_grad()
def update_importance(
    memory: Mapping[str, Any],
    chosen: Sequence[int],
    gradients: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *,
    alpha: float,
    by_element: bool = False,
) -> None:
    """Update E and i of the chosen tensors; overwrites their gradients.

    Parameters
    ----------
    memory
        See above.
    chosen
        Places of the selected tensors among all.
    gradients, parameters
        Of all tensors.
    alpha
        Weight of the current sensitivity.
    by_element
        Whether i is kept for each element instead of its mean over the tensor.
    """
    if not chosen:
        return
    # Equation 4: sensitivity S = |theta g|
    s = [gradients[n] for n in chosen]
    torch._foreach_mul_(s, [parameters[n] for n in chosen])
    torch._foreach_abs_(s)
    # Equation 5: its moving average E <- alpha S + (1 - alpha) E
    e = [memory["sensitivity"][n] for n in chosen]
    torch._foreach_mul_(e, 1 - alpha)
    torch._foreach_add_(e, s, alpha=alpha)
    # Equation 6: deviation D = |S - E|
    torch._foreach_sub_(s, e)
    torch._foreach_abs_(s)
    # Equation 7: importance i = (D + 1e-8) / (E + 1e-8)
    torch._foreach_add_(s, EPS)
    torch._foreach_div_(s, torch._foreach_add(e, EPS))
    importance = s if by_element else [ratio.mean() for ratio in s]
    torch._foreach_copy_([memory["importance"][n] for n in chosen], importance)
    for n in chosen:
        memory["known"][n] = True


def moving_tensors(memory: Mapping[str, Any], chosen: Sequence[int], freeze: bool) -> list[int]:
    """Return the places of the tensors that this batch moves.

    With `freeze` only the chosen ones do, else all that were ever selected keep their last rate.
    """
    return list(chosen) if freeze else [n for n, known in enumerate(memory["known"]) if known]


def rates_of(memory: Mapping[str, Any], moving: Sequence[int], sizes: Tensor) -> dict[str, Tensor]:
    """Return diagnostics: importance [n], 0 for a tensor that rests, and the moving share.

    The share is that of the elements, of which the tensors have `sizes` [n].
    """
    zero, moves = sizes.new_zeros(()), set(moving)
    means = torch.stack(
        [i.mean() if n in moves else zero for n, i in enumerate(memory["importance"])]
    )
    return {"importance": means, "share_moving": ((means > 0) * sizes).sum() / sizes.sum()}
