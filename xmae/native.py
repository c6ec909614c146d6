"""Around the native libraries of the edge tools: quiet, one thread, and a plain word when one is
missing.
"""

import os
import sys
import tempfile
import warnings
from contextlib import contextmanager

from xmae.errors import UserError
from xmae.extras import extra_of


@contextmanager
def quietly():
    """Keep the output of converters and runtimes (Python and native) off the standard streams; also
    a decorator.

    Raises
    ------
    UserError
        If the body imports a library that is not installed.
    """
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    saved = [os.dup(number) for number in (1, 2)]
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in (1, 2):
                os.dup2(sink.fileno(), number)
            yield
            for stream in streams:
                stream.flush()
    except ModuleNotFoundError as error:
        extra = extra_of(error.name.partition(".")[0])
        raise UserError(f"{error.name} is not installed; pip install 'xmae[{extra}]'") from error
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@contextmanager
def one_thread():
    """Run PyTorch on one thread, since single windows are too little work for several. Also a
    decorator.
    """
    import torch  # not in the light runtime, which reads files quietly too

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
