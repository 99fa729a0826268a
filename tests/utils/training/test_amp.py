"""The precision that ``--amp auto`` chooses on a CPU."""

from __future__ import annotations

import pytest
import torch

from utils.training.amp import choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capability", "units", "dtype"),
    [
        ("AVX512", {"_is_avx512_bf16_supported": True, "_is_amx_tile_supported": False}, torch.bfloat16),
        ("AVX512", {"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": True}, torch.bfloat16),
        ("AVX512", {"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": False}, None),
        ("AVX512", {"_is_amx_tile_supported": True}, torch.bfloat16),
        ("AVX512", {}, None),  # a PyTorch that cannot be asked
        ("AVX2", {"_is_avx512_bf16_supported": True, "_is_amx_tile_supported": True}, None),  # masked off
    ],
)
def test_bf16_where_the_processor_has_it(
    capability: str, units: dict[str, bool], dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
        if name in units:
            monkeypatch.setattr(torch.cpu, name, lambda has=units[name]: has, raising=False)
    assert choose_precision("auto", CPU).dtype is dtype
    assert choose_precision("off", CPU).dtype is None
    assert choose_precision("bf16", CPU).dtype is torch.bfloat16
