"""Training the bundled models: MAE pretraining, head probing, joint training.

A recipe is a sequence of phases, each with one of five losses:

* `mae`    reconstruction only (He et al. 2022): AdamW betas (0.9,0.95), weight decay 0.05;
* `probe`  the head on a frozen encoder, as TTT-MAE trains it (Gandelsman et al. 2022, "ViT
           probing"): AdamW betas (0.9,0.999), weight decay 0.2, label smoothing 0.1;
* `joint`  reconstruction + cross-entropy through the shared encoder, the way the original TTT
           trains (Sun et al. 2020). With `class_mask_ratio` > 0 the head sees only the visible
           patches and both losses share one encoder pass (as SupMAE, Liang et al. 2022, does),
           which costs a quarter; a last phase on whole images then adapts the head;
* `supervised`  cross-entropy alone, for the classifiers (Zagoruyko and Komodakis 2016): SGD with
           Nesterov momentum 0.9, weight decay 5e-4;
* `rotation`  cross-entropy of the class, and of the turn on the same batch with every image turned
           by 0, 90, 180 or 270 degrees (Sun et al. 2020); the same optimiser.

The learning rate follows a warm-up and a half cosine per iteration. The state is checkpointed every
few minutes and a killed run resumes to the same weights: all randomness is a function of (seed,
phase, step).
"""

from tttlib.models.training.crops import augment, shifted
from tttlib.models.training.phases import clean_accuracy, cosine_lr
from tttlib.models.training.recipes import RECIPES, Phase, Recipe
from tttlib.models.training.trainer import train

__all__ = [
    "RECIPES", "Phase", "Recipe", "augment", "clean_accuracy", "cosine_lr", "shifted", "train",
]  # fmt: skip
