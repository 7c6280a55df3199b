"""What numbers are kept in on a GPU: the rules of mixed precision, all in one place.

- Hash tables: a float32 master that Adam moves, and a half-precision copy that the gathers read.
- Activations between kernels, and the operands of matrix products in the forward pass: half precision; sums float32.
- Gradients: float32 throughout, the operands of their matrix products bfloat16, which has the range of float32. Nothing
  underflows, so no loss is scaled; a hash table collects its gradients by float32 atomics on every GPU.
- Density, transmittance, weights, distances and colors: float32. Half-precision values saturate instead of overflowing;
  NaN stays NaN, so that training notices it.
- Parameters, moments and what is written to disk: float32, so a checkpoint is independent of where it was trained.
"""

import torch

from blocknerf.kernels.backends import TRITON_INTERPRET

STORAGE_DTYPE = torch.float16
"""Of the copies of hash tables, and of activations between kernels."""
HALF_MAX = 65504.0
"""Largest number of `STORAGE_DTYPE`; activations are kept within it."""
MATMUL_DTYPE = torch.float32 if TRITON_INTERPRET else torch.bfloat16
"""Of matrix products in the backward pass; Triton's interpreter takes the bits of a bfloat16 for a whole number."""
FIXED_POINT = float(1 << 40)
"""What gradients of hash tables are multiplied by to be added as whole numbers, where order must not matter."""
