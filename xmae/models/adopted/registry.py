"""The published encoders that can be adopted by name: one file each."""

from xmae.models.adopted import anyppg, normwear, papagei, pulse_ppg

ARCHITECTURES = {
    **papagei.ARCHITECTURES,
    **pulse_ppg.ARCHITECTURES,
    **anyppg.ARCHITECTURES,
    **normwear.ARCHITECTURES,
}
