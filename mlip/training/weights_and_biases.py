"""Records of a run for Weights & Biases (extra `wandb`), in addition to the log in the run folder.

Without a network set WANDB_MODE=offline, and upload the run later with `wandb sync`.
"""

import importlib
import secrets
from pathlib import Path

import yaml

from mlip.errors import MlipError


class WeightsAndBiases:
    """A run of `project` on Weights & Biases. Its id is kept in the run folder, so that a resumed run continues it.

    Args:
        folder: the run folder, which contains recipe.yaml.
        n_done: number of completed steps.

    Raises:
        MlipError: the package is not installed, or the service cannot be reached.
    """

    def __init__(self, folder: Path, project: str, n_done: int = 0):
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise MlipError(
                f"Weights & Biases is asked for, but cannot be imported ({error})",
                fix="pip install 'alexandria-mlip[wandb]', or leave the project out",
            ) from None
        try:
            self._run = wandb.init(
                project=project,
                name=folder.name,
                id=_run_id(folder, is_new=not n_done),
                resume="allow",
                dir=str(folder),
                config=yaml.safe_load((folder / "recipe.yaml").read_text()),
                settings=wandb.Settings(console="off", silent=True),
            )
        except (wandb.Error, OSError) as error:
            raise MlipError(
                f"Weights & Biases: {' '.join(str(error).split())}",
                fix="wandb login; or set WANDB_MODE=offline and use `wandb sync` later",
            ) from None
        # Its own counter only increases, but a resumed run repeats some steps: use our step as the axis.
        self._run.define_metric("*", step_metric="step")

    def write(self, kind: str, step: int, values: dict[str, int | float]) -> None:
        self._run.log({"step": step, **{f"{kind}/{name}": value for name, value in values.items()}})

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _run_id(folder: Path, *, is_new: bool) -> str:
    path = folder / "wandb_id"
    if is_new or not path.exists():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()
