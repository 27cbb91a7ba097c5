"""Objects to learn from: sources of posed photographs, the samples that a reconstructor sees, and shards of them."""

from mvgamba.data.sources import GlbFolder, Source, TrainingViews

__all__ = ["GlbFolder", "Source", "TrainingViews"]
