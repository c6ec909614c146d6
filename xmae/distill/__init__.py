"""Distillation of a pretrained encoder into a student for the watch."""

from xmae.callable_package import make_callable

make_callable(__name__)  # `xmae.distill(...)` is `xmae.distill.distill.distill(...)`
