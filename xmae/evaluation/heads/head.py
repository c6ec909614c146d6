"""A linear head: what it is made of, what it says, and when it is believed."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from xmae.manifest import Line, Number, Omitted, Schema, Units, Word

MAX_WIDTH = 65_536  # numbers of an embedding
MIN_SKILL = 0.05  # our choice: with some twenty subjects, chance alone reaches a few hundredths


class Head(Schema):
    """A linear head: `weight @ embedding + bias` is its answer.

    Attributes
    ----------
    kind : str
        "regression": the answer is in `units`. "binary": it is the log odds of the class.
    label, units : str
        Quantity in words, and the unit of a regression ("bpm").
    weight, bias : list of float, float
        A weight for each number of the embedding.
    skill : float or None
        Share of a constant's loss that it explains on training subjects left out, at most 1.
        None: not known, as in older files.
    """

    kind: Literal["regression", "binary"]
    label: Line
    units: Units
    weight: Annotated[list[Number], Field(min_length=1, max_length=MAX_WIDTH)]
    bias: Number
    skill: Omitted[Annotated[float, Field(ge=-1e9, le=1)]] = None

    @property
    def has_skill(self) -> bool:
        """Tell whether the head explains enough of a constant's loss on held-out subjects; a head
        of unknown skill passes.
        """
        return self.skill is None or self.skill >= MIN_SKILL

    def apply(self, embedding: np.ndarray) -> np.ndarray:
        """Compute the head's answer for embeddings (n, D): the number, or the probability of the
        positive class; shape (n,).
        """
        value = np.asarray(embedding, dtype=np.float64) @ np.asarray(self.weight) + self.bias
        return 1 / (1 + np.exp(-value)) if self.kind == "binary" else value


TaskHeads = dict[Word, Head]  # of one model, by task
Heads = dict[Word, TaskHeads]  # by model
