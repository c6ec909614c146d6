"""xMAE: pretrain a PPG encoder by rebuilding masked ECG, and take it to the watch as a verified
INT8 bundle.
"""

from xmae.privacy import stay_home

__version__ = "0.1.0"
stay_home()  # before any library is imported


def load(name):
    """Load a PPG encoder by name ("base", "student-mcu"), path, folder or "hf://org/name"; see
    `xmae.models.load_encoder`.
    """
    from xmae.models import load_encoder

    return load_encoder(name)


from_pretrained = load  # the name that hubs give it
