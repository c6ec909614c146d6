"""What methods share whose targets come from a momentum teacher, a slow copy of the student."""

import copy

from xmae.objectives.objective import Objective, cosine, first_momentum, follow, is_weight

LAST_DECAY = 0.4  # weight decay that DINO and MSN rise to


class MomentumTeacher(Objective):
    """A method with `encoder` and `head`, and copies of both that follow them.

    Attributes
    ----------
    momentum : float
        Of the teacher at the start of a run.
    teacher, teacher_head : nn.Module
        The copies; see `add_teacher`.
    """

    def add_teacher(self):
        """Make the copies; they get no gradient."""
        self.teacher, self.teacher_head = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.encoder, self.head)
        )

    def follow_student(self, momentum):
        """Let the copies follow; with a momentum of 1 they stay."""
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)

    def restart_teacher(self):
        """The teacher begins where the encoder does."""
        follow(self.teacher, self.encoder, 0.0)

    def begin(self, n_steps):
        """Start the teacher's momentum where the run can forget its random weights."""
        self.momentum = first_momentum(self.momentum, n_steps)

    def decays(self, name, parameter):
        """Let weight decay pull at weights alone."""
        return is_weight(name, parameter)

    def weight_decay(self, progress):
        """Go from 0.04 to 0.4 by cosine."""
        return cosine(self.defaults.weight_decay, LAST_DECAY, progress)
