"""Buffers that take memory only where they are written."""

import numpy as np

from runners.engines.load_cost import resident_bytes
from runners.engines.pages import lazy_zeros


def test_a_large_buffer_is_zero_writable_and_takes_little():
    before = resident_bytes()
    buffer = lazy_zeros((64, 1024, 1024), np.float32)  # 256 MiB
    buffer[::8, 0, :16] = 1.0
    assert buffer.shape == (64, 1024, 1024)
    assert buffer[8, 0].sum() == 16
    assert buffer[9].sum() == 0
    if before:
        assert resident_bytes() - before < 32 * 1024**2
