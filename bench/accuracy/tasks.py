# SPDX-License-Identifier: MIT
"""What is learnt: the equations, their grids, and the sizes of a run's profile."""

from __future__ import annotations

from dataclasses import dataclass, field

HISTORY = 4  # frames that a model sees, as SS-NO's memory does


@dataclass(frozen=True)
class Task:
    """The next frame from those before, or with `history` 1 one field from another.

    Trained on grids of `size` points an axis, tested on every one of `sizes`. A test gives the
    first `given` frames, and the model goes on from what it has predicted.
    """

    name: str
    axes: int
    size: int
    sizes: tuple[int, ...]
    boundary: str = "periodic"
    history: int = HISTORY
    given: int = 1
    noise: float = 0.001  # added to normalised inputs in training
    placed: bool = False  # the equation depends on the place, so models are told where they are

    @property
    def family(self) -> str:
        return self.name.split("-")[0]

    @property
    def rolls(self) -> bool:
        """Whether the output is the next input."""
        return self.history > 1


_LINE = (32, 64, 128, 256, 512)

TASKS = (
    Task("ks-0.075", 1, 64, _LINE),
    Task("ks-0.1", 1, 64, _LINE),
    Task("ks-0.125", 1, 64, _LINE),
    Task("burgers", 1, 64, _LINE, noise=0.005),
    Task("torus", 2, 64, (32, 64, 128), given=10, placed=True),
    Task("darcy", 2, 16, (16, 32), boundary="zero", history=1, placed=True),
)


@dataclass(frozen=True)
class Settings:
    """How a model is trained, the same for all of a task: AdamW, cosine to 0.

    `train` and `test` count samples; on grids other than the training one `transfer` are tested.
    """

    train: int
    test: int
    epochs: int
    batch: int
    seed: int = 0
    rate: float | None = None  # that of the model if None
    decay: float = 1e-4
    transfer: int = 16


@dataclass(frozen=True)
class Profile:
    """Settings by the family of a task; models of `peers.MODELS`, all of them if None."""

    name: str
    settings: dict[str, Settings]
    models: tuple[str, ...] | None = None
    options: dict[str, dict] = field(default_factory=dict)  # of a model, to make it smaller

    @property
    def committed_only(self) -> bool:
        """Whether it is for machines that can fetch nothing."""
        return self.name == "smoke"

    def of(self, task: Task) -> Settings | None:
        return self.settings.get(task.family)


# Needs neither a solver nor neuraloperator: it has the Darcy data of bench/data.
SMOKE = Profile(
    "smoke",
    {"darcy": Settings(train=48, test=16, epochs=10, batch=24, rate=8e-3)},
    models=("ssno", "unet", "mambano"),
    options={
        "ssno": {"hidden": 32, "width": 32, "states": 8, "blocks": 4},
        "unet": {"width": 8},
        "mambano": {"width": 4, "hidden": 16, "states": 4},
    },
)
SHORT = Profile(
    "short",
    {
        "ks": Settings(train=128, test=32, epochs=8, batch=16),
        "burgers": Settings(train=128, test=32, epochs=8, batch=16),
        "torus": Settings(train=8, test=4, epochs=3, batch=4),
        "darcy": Settings(train=256, test=50, epochs=8, batch=16, transfer=50),
    },
    models=(
        "ssno",
        "ssno, constant hold",
        "ssno, one-sided",
        "fno",
        "unet",
        "mambano",
        "mambano, plain",
    ),
)
PAPER = Profile(
    "paper",
    {
        "ks": Settings(train=512, test=64, epochs=12, batch=16),
        "burgers": Settings(train=512, test=64, epochs=12, batch=16),
        "torus": Settings(train=40, test=10, epochs=4, batch=4),
        "darcy": Settings(train=1000, test=50, epochs=20, batch=16, transfer=50),
    },
)
PROFILES = {profile.name: profile for profile in (SMOKE, SHORT, PAPER)}

# Relative L2 that the paper of SS-NO states for the full data and 500 epochs (arXiv 2507.23428).
PUBLISHED = {
    "ks-0.075": {"ssno": 0.0086, "F-FNO": 0.0110},
    "ks-0.1": {"ssno": 0.0026, "F-FNO": 0.0045},
    "ks-0.125": {"ssno": 0.0013, "F-FNO": 0.0031},
    "torus": {"ssno": 0.0345},
}
