"""How the mask ratio rises over training: by the validation loss, or by a plain schedule over
epochs.
"""

from dataclasses import dataclass

RATIOS = (0.80, 0.85, 0.90)  # the reference's ladder


@dataclass
class LossLadder:
    """Curriculum that moves to the next mask ratio when the smoothed validation loss has fallen
    enough on this one.

    ``ema = 0.8 ema + 0.2 loss``, started at the level's first validation loss; the next level comes
    when ema is 10 % below its value at the level's start, after at least 3 epochs on the level. The
    reference declares such a ladder but never advances it; this definition is ours.

    Examples
    --------
    >>> ladder = LossLadder()
    >>> for loss in (1.0, 0.5, 0.5, 0.5):
    ...     ladder.update(loss)
    >>> ladder.ratio
    0.85
    """

    ratios: tuple[float, ...] = RATIOS
    level: int = 0
    epochs: int = 0  # on this level
    first: float = 0.0  # ema at the level's start
    ema: float = 0.0

    @property
    def ratio(self):
        """Return the current mask ratio."""
        return self.ratios[self.level]

    def update(self, loss):
        """Take the validation loss of one more epoch."""
        self.ema = loss if self.epochs == 0 else 0.8 * self.ema + 0.2 * loss
        if self.epochs == 0:
            self.first = loss
        self.epochs += 1
        if self.epochs >= 3 and self.ema <= 0.9 * self.first and self.level + 1 < len(self.ratios):
            self.level, self.epochs = self.level + 1, 0


@dataclass
class EpochSchedule:
    """Curriculum that spreads the mask ratios evenly over the epochs."""

    n_epochs: int
    ratios: tuple[float, ...] = RATIOS
    epochs: int = 0

    @property
    def ratio(self):
        """Return the current mask ratio."""
        return self.ratios[
            min(self.epochs * len(self.ratios) // self.n_epochs, len(self.ratios) - 1)
        ]

    def update(self, loss):
        """Count one more epoch; its loss is ignored."""
        self.epochs += 1
