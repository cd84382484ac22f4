"""MSAmba: the selective scan, one number at a time."""

import math

import numpy as np


def silu(x):
    """x times its logistic function."""
    return x / (1 + np.exp(-x))


def selective_scan(x, step, rate, enter, leave):
    """y [T, C] of x [T, C] with steps [T, C], rates [C, S], and what enters and leaves the state [T, S]."""
    steps, channels = x.shape
    y = np.zeros_like(x)
    for c in range(channels):
        for s in range(rate.shape[1]):
            state = 0.0
            for t in range(steps):
                state = math.exp(step[t, c] * rate[c, s]) * state + step[t, c] * enter[t, s] * x[t, c]
                y[t, c] += leave[t, s] * state
    return y


def direction(x, weights, states):
    """The scan of one direction of x [T, C], with its convolution over the steps before.

    Args:
        x: one sequence.
        weights: "kernel" [C, K] and "kernel_bias", "select" [R + 2S, C], "step" [C, R] and "step_bias", "rate_log"
            [C, S], "skip" [C].
        states: S.
    """
    kernel = weights["kernel"]
    mixed = np.zeros_like(x)
    for t in range(len(x)):
        for c in range(x.shape[1]):
            for back in range(kernel.shape[1]):
                if t - back >= 0:
                    mixed[t, c] += kernel[c, kernel.shape[1] - 1 - back] * x[t - back, c]
    mixed = silu(mixed + weights["kernel_bias"])
    chosen = mixed @ weights["select"].T
    rank = chosen.shape[1] - 2 * states
    step = np.log1p(np.exp(chosen[:, :rank] @ weights["step"].T + weights["step_bias"]))
    enter, leave = chosen[:, rank : rank + states], chosen[:, rank + states :]
    return selective_scan(mixed, step, -np.exp(weights["rate_log"]), enter, leave) + weights["skip"] * mixed


def scan(frames, enter, leave, ahead, back, states):
    """Both directions of a sequence [T, D], gated."""
    x, gate = np.split(frames @ enter.T, 2, axis=1)
    y = direction(x, ahead, states) + direction(x[::-1], back, states)[::-1]
    return (y * silu(gate)) @ leave.T
