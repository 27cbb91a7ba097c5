"""Sentences as numbers, with nothing to download: known words have a place of their own, and every word the pieces that it is spelt with."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from mvgamba.multiview.prompts import pieces_of, words_of
from mvgamba.multiview.starter_network import Words

MOST_WORDS = 24
"""What comes later in a sentence is not read."""
_PIECES = 24
_UNKNOWN, _START = 0, 1
_FIRST = 2


@dataclass(frozen=True)
class WordConfig:
    """An encoder in numbers."""

    vocabulary: tuple[str, ...] = ()
    """Words with a place of their own, in its order."""
    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    buckets: int = 4096
    """That pieces of words share."""


class WordNumbers:
    """Sentences -> numbers of words and of their pieces."""

    def __init__(self, config: WordConfig) -> None:
        self._numbers = {word: _FIRST + i for i, word in enumerate(config.vocabulary)}
        self._buckets = config.buckets

    def __call__(
        self, sentences: Sequence[str]
    ) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L p"], Bool[Tensor, "B L"]]:
        """Numbers of words, of pieces (0 for none) and where there is a word. A sentence begins with a mark, so none is empty."""
        rows = [words_of(sentence)[:MOST_WORDS] for sentence in sentences]
        length = 1 + max((len(row) for row in rows), default=0)
        words = torch.zeros(len(rows), length, dtype=torch.int64)
        pieces = torch.zeros(len(rows), length, _PIECES, dtype=torch.int64)
        known = torch.zeros(len(rows), length, dtype=torch.bool)
        words[:, 0], known[:, 0] = _START, True
        for i, row in enumerate(rows):
            for j, word in enumerate(row, start=1):
                words[i, j], known[i, j] = self._numbers.get(word, _UNKNOWN), True
                spelt = [1 + zlib.crc32(p.encode()) % self._buckets for p in pieces_of(word)][:_PIECES]
                pieces[i, j, : len(spelt)] = torch.tensor(spelt)
        return words, pieces, known


class WordEncoder(nn.Module):
    """Numbers of words -> what they mean in their sentence.

    In training the number of a word is left out now and then, so that its spelling alone has to do; that is what a word outside the
    vocabulary has.
    """

    FORGET = 0.15

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        self.config = config
        self.numbers = WordNumbers(config)
        self.words = nn.Embedding(_FIRST + len(config.vocabulary), config.width)
        self.pieces = nn.Embedding(1 + config.buckets, config.width, padding_idx=0)
        self.positions = nn.Parameter(0.02 * torch.randn(1 + MOST_WORDS, config.width))
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.normal_(self.pieces.weight, std=0.3)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.num_heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, sentences: Sequence[str]) -> Words:
        device = self.positions.device
        words, pieces, known = (x.to(device) for x in self.numbers(sentences))
        if self.training:
            words = torch.where(
                (words >= _FIRST) & (torch.rand(words.shape, device=device) < self.FORGET), _UNKNOWN, words
            )
        spelt = self.pieces(pieces).sum(2) / (pieces > 0).sum(2, keepdim=True).clamp_min(1)
        tokens = self.words(words) + spelt + self.positions[: words.shape[1]]
        return Words(self.norm(self.layers(tokens, src_key_padding_mask=~known)), known)
