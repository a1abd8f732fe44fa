"""The maths of learning an SAE: `step.py` is the step, `trainer.py` what it moves on. Knows no Ray and no files."""

from raysae.training.trainer import AllReduce, Diverged, SAETrainer

__all__ = ["AllReduce", "Diverged", "SAETrainer"]
