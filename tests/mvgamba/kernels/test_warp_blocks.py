"""The words of kernels in blocks: what they mean when fibers run them, and that every CUDA kernel compiles without a device."""

import importlib

import pytest
import torch

from mvgamba.kernels import cuda_modules
from mvgamba.kernels.warp_blocks import PRELUDE, launch_blocks
from mvgamba.kernels.warp_runtime import warp

ARCHITECTURES = (75, 80, 90, 120)
"""Turing, Ampere, Hopper and Blackwell (consumer)."""

BODY = """
    BLOCK_SHARED float shared[64];
    shared[THREAD] = x.data[block * 64 + THREAD];
    BLOCK_SYNC();
    const float mirrored = shared[63 - THREAD];
    const float sum = warp_sum(mirrored);
    const float neighbour = warp_xor(mirrored, 1);
    const int any = warp_any(mirrored > 0.97f);
    const int count = block_count(mirrored > 0.5f);
    float* row = y.data + (block * 64 + THREAD) * 6;
    row[0] = sum; row[1] = neighbour; row[2] = (float)any; row[3] = (float)count;
    row[4] = exp2_fast(mirrored); row[5] = log_fast(mirrored);
    add_to(total.data, mirrored);
"""


def words_kernel():
    wp = warp()

    @wp.func_native(PRELUDE + BODY)
    def words(
        block: int, x: wp.array(dtype=wp.float32), y: wp.array(dtype=wp.float32), total: wp.array(dtype=wp.float32)
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    def words_of_blocks(
        x: wp.array(dtype=wp.float32), y: wp.array(dtype=wp.float32), total: wp.array(dtype=wp.float32)
    ):
        words(wp.tid() / 64, x, y, total)

    return words_of_blocks


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_words_of_a_block_mean_what_their_names_say(device):
    x = torch.rand(3 * 64, generator=torch.Generator().manual_seed(0)).add(0.01).to(device)
    y, total = torch.zeros(3 * 64, 6, device=device), torch.zeros(1, device=device)
    wp = warp()
    launch_blocks(words_kernel(), 3, 64, [wp.from_torch(t.view(-1)) for t in (x, y, total)], device=x.device)
    mirrored = x.view(3, 64).flip(1)
    warps = mirrored.view(3, 2, 32)
    expected = [
        warps.sum(-1, keepdim=True).expand(3, 2, 32),
        warps.view(3, 2, 16, 2).flip(-1),
        (warps > 0.97).any(-1, keepdim=True).expand(3, 2, 32),
        (mirrored > 0.5).sum(1)[:, None].expand(3, 64),
        torch.exp2(mirrored),
        torch.log(mirrored),
    ]
    for column, wanted in zip(y.unbind(1), expected, strict=True):
        torch.testing.assert_close(column, wanted.reshape(-1).float(), rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(total[0], x.sum(), rtol=1e-5, atol=0)


def test_a_launch_of_no_blocks_does_nothing():
    launch_blocks(None, 0, 64, [], device=torch.device("cpu"))


@pytest.mark.parametrize("name", cuda_modules())
def test_cuda_kernels_compile_ahead_of_time_without_a_device(name, tmp_path):
    wp = warp()
    module = importlib.import_module(f"mvgamba.kernels.{name}")
    kernels = module.cuda_kernels()
    assert kernels
    for compiled in {id(k.module): k.module for k in kernels}.values():
        for arch in ARCHITECTURES:
            folder = tmp_path / f"{id(compiled)}_{arch}"
            wp.compile_aot_module(compiled, device=None, arch=arch, module_dir=str(folder))
            cubins = list(folder.glob(f"*sm{arch}*.cubin"))
            assert cubins and all(c.stat().st_size > 0 for c in cubins), f"{name} gave nothing for sm_{arch}"
