# SPDX-License-Identifier: Apache-2.0
"""S5 in JAX, as the listing of its paper has it, in a process of its own: it may live in another virtual environment.

Reads one job per line as JSON from the standard input and answers each with one line. Knows nothing of eigenhub or
torch.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np


def combine(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


def apply_ssm(p, u):
    """One sequence `(length, features)`; zero-order hold, a prefix scan over all steps."""
    values = p["eigenvalues"][:, 0] + 1j * p["eigenvalues"][:, 1]
    b, c = (p[name][..., 0] + 1j * p[name][..., 1] for name in ("b", "c"))
    lbar = jnp.exp(values * jnp.exp(p["log_step"]))
    bbar = ((lbar - 1) / values)[:, None] * b
    drives = jax.vmap(lambda u_k: bbar @ u_k)(u)
    diagonals = lbar * jnp.ones((u.shape[0], lbar.shape[0]))
    _, states = jax.lax.associative_scan(combine, (diagonals, drives))
    return jax.vmap(lambda x: (c @ x).real)(states) + p["d"] * u


@jax.jit
def forward_backward(p, u, upstream):
    y, pull = jax.vjp(lambda p, u: jax.vmap(apply_ssm, in_axes=(None, 0))(p, u), p, u)
    return y, pull(upstream)


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    print(json.dumps({"version": jax.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "load" in job:
            arrays = {name: jnp.asarray(array) for name, array in np.load(job["load"]).items()}
        p = {name: array for name, array in arrays.items() if name not in ("u", "upstream")}
        start = time.process_time()
        y, grads = jax.block_until_ready(forward_backward(p, arrays["u"], arrays["upstream"]))
        seconds = time.process_time() - start
        if "save" in job:
            np.savez(job["save"], y=np.asarray(y), grad=np.asarray(grads[1]))
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
