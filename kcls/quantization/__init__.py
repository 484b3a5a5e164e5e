"""Networks in int8: trained to live with its rounding, and written so that a delegate runs all of them.

``quantize_aware`` makes the network that is trained, ``calibrate`` gives it ranges without training, ``plain`` leads
back. ``edge_form`` is for the quantization of an ordinary network after its training.
"""

from kcls.quantization.aware import can_be_aware, edge_form, mixed_form, plain, quantize_aware
from kcls.quantization.ranges import calibrate, is_quantization_aware, quantization_of, unknown_ranges

__all__ = [
    "calibrate",
    "can_be_aware",
    "edge_form",
    "is_quantization_aware",
    "mixed_form",
    "plain",
    "quantization_of",
    "quantize_aware",
    "unknown_ranges",
]
