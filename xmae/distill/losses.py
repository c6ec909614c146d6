"""What it means that a student's embeddings agree with its teacher's: in place, in direction, or
among themselves.
"""

import torch
import torch.nn.functional as F

from xmae.errors import UserError

# of relational distillation where it stands beside other losses (see below)
DISTANCE_WEIGHT, ANGLE_WEIGHT = 25, 50


def cosine_loss(student, teacher):
    """Return one minus the mean cosine between embeddings (B, E), row by row."""
    return 1 - F.cosine_similarity(student, teacher).mean()


def relational_loss(student, teacher):
    """Return the relational distillation loss: the Huber loss of distances and angles among the
    embeddings (B, E) of a batch.

    Whatever turns, moves or scales all embeddings together costs nothing. Park et al., CVPR 2019,
    arXiv 1904.05068, equations 5 to 9, with their weights.
    """
    with torch.autocast(student.device.type, enabled=False):  # differences of squares need float32
        (distance, angle), (wanted, wanted_angle) = (
            relations(student.float()),
            relations(teacher.float()),
        )
        return DISTANCE_WEIGHT * F.smooth_l1_loss(
            distance, wanted
        ) + ANGLE_WEIGHT * F.smooth_l1_loss(angle, wanted_angle)


def relations(x):
    """Return the distances of all pairs over their mean, (B (B - 1),), and the cosine of the angle
    i j k at [j, i, k], (B, B, B).

    Where j is i or k there is no angle: 0.
    """
    gram, itself = x @ x.T, torch.eye(len(x), dtype=torch.bool, device=x.device)
    square = gram.diagonal()
    distance = (square[:, None] + square - 2 * gram).clamp(min=1e-6).masked_fill(itself, 1).sqrt()
    # (x_i - x_j) (x_k - x_j), 0 for i = j
    dot = gram - gram[:, :, None] - gram[:, None, :] + square[:, None, None]
    apart = distance[~itself]
    return apart / apart.mean(), dot / (distance[:, :, None] * distance[:, None, :])


def same_cosine(student, teacher):
    """Return the mean cosine between embeddings (n, E), row by row."""
    return F.cosine_similarity(student, teacher).mean()


def same_distances(student, teacher):
    """Return the correlation between student and teacher of the pairwise distances of embeddings
    (n, E), of the first 4096.

    Raises
    ------
    UserError
        If there are fewer than 3.
    """
    if len(student) < 3:
        raise UserError(
            f"distances are compared over at least 3 validation windows, there are {len(student)}"
        )
    return torch.corrcoef(torch.stack([torch.pdist(x[:4096].float()) for x in (student, teacher)]))[
        0, 1
    ]


LOSSES = {  # the loss, and the name of what tells on validation subjects how far it got (1 is best)
    "mse": (F.mse_loss, "cosine"),
    "cosine": (cosine_loss, "cosine"),
    "relational": (relational_loss, "distances"),
}
AGREEMENTS = {"cosine": same_cosine, "distances": same_distances}
