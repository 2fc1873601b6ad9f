"""The numbers at which two implementations of a tree are likeliest to disagree."""

import math

import numpy as np

#: `kZeroThreshold` of LightGBM: the float32 nearest 1e-35, as a float64.
ZERO_BAND = float(np.float32(1e-35))
#: Values at which float64 code goes wrong: zeros, the band LightGBM takes for
#: zero and its edges, denormals, the largest numbers, infinities.
EXTREMES = (
    0.0, -0.0, ZERO_BAND, -ZERO_BAND,
    math.nextafter(ZERO_BAND, 1.0), math.nextafter(-ZERO_BAND, -1.0), 1e-36, -1e-36,
    5e-324, -5e-324, 2.2250738585072014e-308, 1e-300, -1e-300,
    2.0**53, 2.0**63, 3.5e38, -3.5e38, 1.7976931348623157e308, -1.7976931348623157e308,
    math.inf, -math.inf,
)  # fmt: skip
#: The same for models that compute in float32, whose libraries refuse infinities.
EXTREMES_32 = (
    0.0, -0.0, 1e-35, -1e-35, 1.401298464324817e-45, -1.401298464324817e-45, 1.1754943508222875e-38,
    1e-300, -1e-300, 2.0**24, 2.0**63, 3.4028234663852886e38, -3.4028234663852886e38,
)  # fmt: skip
