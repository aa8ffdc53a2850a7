"""The command that starts the training: a script read as bash would, its words as the launcher and hydra would."""

from harness.preflight.command.reading import read_script, read_words
from harness.preflight.command.training_command import TrainingCommand

__all__ = ["TrainingCommand", "read_script", "read_words"]
