"""Mixed precision on a GPU: all rules in one place.

- Hash tables: a float32 master copy that Adam updates, and a half-precision copy that gathers read.
- Activations between kernels, and operands of forward matrix products: half precision, with float32 sums.
- Gradients: float32; operands of their matrix products are bfloat16, which has the range of float32. Nothing
  underflows, so no loss scaling is needed. Hash table gradients are summed by float32 atomics on every GPU.
- Density, transmittance, weights, distances and colors: float32. Half-precision values saturate instead of overflowing;
  NaN stays NaN, so that training detects it.
- Parameters, moments and files on disk: float32, so a checkpoint does not depend on the device it was trained on.
"""

import torch

from blocknerf.kernels.backends import TRITON_INTERPRET

STORAGE_DTYPE = torch.float16
"""Type of hash table copies and of activations between kernels."""
HALF_MAX = 65504.0
"""Largest finite `STORAGE_DTYPE`; activations are clamped to it."""
MATMUL_DTYPE = torch.float32 if TRITON_INTERPRET else torch.bfloat16
"""Operand type of backward matrix products. Triton's interpreter would read the bits of a bfloat16 as an integer."""
FIXED_POINT = float(1 << 40)
"""Scale of hash table gradients that are summed as integers, for a result that does not depend on order."""
