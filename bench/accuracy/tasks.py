# SPDX-License-Identifier: MIT
"""What is learnt: the equations, their grids, and the sizes of a run's profile."""

from __future__ import annotations

from dataclasses import dataclass

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
    """How a model is trained, the same for all of a task: AdamW, cosine to 0."""

    train: int
    test: int
    epochs: int
    batch: int
    seed: int = 0
    rate: float = 1e-3
    decay: float = 1e-4


@dataclass(frozen=True)
class Profile:
    name: str
    settings: dict[str, Settings]  # by the first part of a task's name
    models: tuple[str, ...] | None = None  # those of peers.MODELS; all if None

    def of(self, task: Task) -> Settings | None:
        return self.settings.get(task.name.split("-")[0])


PROFILES = {
    profile.name: profile
    for profile in (
        # Needs neither a solver nor neuraloperator: the Darcy data of bench/data.
        Profile("smoke", {"darcy": Settings(48, 16, 6, 8)}, ("ssno", "mambano", "unet")),
        Profile(
            "short",
            {
                "ks": Settings(128, 32, 8, 16),
                "burgers": Settings(128, 32, 8, 16),
                "torus": Settings(8, 4, 4, 4),
                "darcy": Settings(256, 50, 8, 16),
            },
        ),
        Profile(
            "paper",
            {
                "ks": Settings(512, 64, 20, 16),
                "burgers": Settings(512, 64, 20, 16),
                "torus": Settings(40, 10, 10, 4),
                "darcy": Settings(1000, 50, 30, 16),
            },
        ),
    )
}
