"""The stack without gradients goes through a sequence in pieces; the result is that of the whole."""

import pytest
import torch

import mvgamba.reconstructor.blocks as blocks
from mvgamba.reconstructor.blocks import MambaStack
from mvgamba.reconstructor.presets import PRESETS

TINY = PRESETS["paper"].replace(width=32, num_layers=3, num_views=2, image_size=56)


@pytest.mark.parametrize("piece", [1, 2, 37, 128, 1000])
def test_pieces_of_any_length_give_the_whole(monkeypatch, piece):
    torch.manual_seed(0)
    stack = MambaStack(TINY).eval()
    for layer in stack.layers:
        torch.nn.init.normal_(layer.mamba_block.mixer.conv1d.bias)
    tokens = torch.randn(2, TINY.num_tokens, TINY.width)
    expected = stack(tokens).detach()
    assert expected.shape[1] == 128
    monkeypatch.setattr(blocks, "PIECE", piece)
    with torch.no_grad():
        got = stack(tokens)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_pieces_leave_their_input_alone():
    stack = MambaStack(TINY).eval()
    tokens = torch.randn(1, TINY.num_tokens, TINY.width)
    kept = tokens.clone()
    with torch.inference_mode():
        first = stack(tokens).clone()
        second = stack(tokens)
    assert torch.equal(tokens, kept)
    assert torch.equal(first, second)
