"""What methods share whose targets come from a momentum teacher, a slow copy of the student."""

import copy

from xmae.objectives.objective import Objective, cosine, first_momentum, follow, is_weight

LAST_DECAY = 0.4  # weight decay that DINO and MSN rise to


class MomentumTeacher(Objective):
    """A method with `encoder` and `head`, and copies of both that are updated by momentum.

    Attributes
    ----------
    momentum : float
        Momentum of the teacher at the start of a run.
    teacher, teacher_head : nn.Module
        The copies; see `add_teacher`.
    """

    def add_teacher(self):
        """Make the copies, which get no gradient."""
        self.teacher, self.teacher_head = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.encoder, self.head)
        )

    def follow_student(self, momentum):
        """Update the copies; with a momentum of 1 they stay."""
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)

    def restart_teacher(self):
        """Set the teacher to the weights of the encoder."""
        follow(self.teacher, self.encoder, 0.0)

    def begin(self, n_steps):
        """Start with a teacher's momentum that lets the run forget its random weights."""
        self.momentum = first_momentum(self.momentum, n_steps)

    def decays(self, name, parameter):
        """Tell whether weight decay applies to a parameter: to weights only."""
        return is_weight(name, parameter)

    def weight_decay(self, progress):
        """Return weight decay that goes from 0.04 to 0.4 along a cosine."""
        return cosine(self.defaults.weight_decay, LAST_DECAY, progress)
