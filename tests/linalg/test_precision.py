# SPDX-License-Identifier: Apache-2.0
"""`full_precision_matmul` switches every shortcut off and leaves the process as it found it."""

import pytest
import torch

from eigenhub.linalg import full_precision_matmul


@pytest.fixture(autouse=True)
def restored():
    """The settings as they were, whatever a test does."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"


def settings() -> tuple[str, ...]:
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.get_float32_matmul_precision(),
    )


@pytest.mark.parametrize("chosen", ["highest", "high", "medium"])
def test_inside_exact_and_afterwards_as_before(chosen):
    torch.set_float32_matmul_precision(chosen)
    before = settings()
    with full_precision_matmul("cpu"):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert settings() == before
    torch.set_float32_matmul_precision("highest")  # the older interface must still be usable
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_restored_after_an_exception():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    before = (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError), full_precision_matmul("cpu"):
            raise ZeroDivisionError
        assert torch.is_autocast_enabled("cpu")
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision) == before


def test_autocast_is_off_inside():
    x = torch.randn(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision_matmul("cpu"):
            exact = x @ x
            with full_precision_matmul("cpu"):
                assert (x @ x).dtype == torch.float32
        assert exact.dtype == torch.float32 and (x @ x).dtype == torch.bfloat16
    assert torch.equal(exact, x @ x)


def test_legacy_switch_is_kept():
    torch.backends.cuda.matmul.allow_tf32 = True
    with full_precision_matmul("cpu"):
        pass
    assert torch.backends.cuda.matmul.allow_tf32 is True
    torch.backends.cuda.matmul.allow_tf32 = False
