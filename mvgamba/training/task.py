"""What the training loop asks of a model: its network, the batch of a step, the losses of a batch, its weights."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.training.ray_batches import batch_order

MeanCount = Callable[[Tensor], Tensor]
"""The mean over all processes of a number of pixels, so that the mean of their losses is that of all pixels."""


@runtime_checkable
class Batch(Protocol):
    """What a step learns from."""

    def to(self, device: torch.device | str) -> "Batch": ...


@runtime_checkable
class Task(Protocol):
    """One model and how it is taught. The loop knows nothing else of it."""

    @property
    def num_samples(self) -> int:
        """That a batch can be filled from."""
        ...

    def make_network(self) -> nn.Module:
        """With random weights of torch's seed, or those that the run begins with.

        Raises: InvalidInput, WeightsMissing, WeightsCorrupt.
        """
        ...

    def batch(self, step: int, *, process: int, processes: int) -> Batch:
        """One process' share of what a step learns from; it follows from the run's seed and the step alone."""
        ...

    def losses(self, network: nn.Module, batch: Batch, *, step: int, mean_count: MeanCount) -> dict[str, Tensor]:
        """By name; `total` is what is learned from. Others may be there for people alone.

        Args:
            network: As `make_network` made it, or wrapped by what spreads it over processes.
        """
        ...

    def write_weights(self, network: nn.Module, folder: Path) -> Path:
        """As the reconstructor loads them."""
        ...

    def pictures(self, network: nn.Module, batch: Batch, *, step: int) -> dict[str, Float[Tensor, "3 h w"]]:
        """By name: what the network is given, what it should say and what it says of the first sample, in [0, 1]."""
        ...


class Ahead:
    """Makes the batch of the next step while the network learns from the present one."""

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mvgamba-batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        waiting = self._next if self._next is not None and self._next[0] == step else None
        batch = self._make(step) if waiting is None else waiting[1].result()
        self._next = step + 1, self._pool.submit(self._make, step + 1)
        return batch

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class SampleOrder:
    """Which samples each step takes: all once an epoch, in an order that follows from the seed.

    Args:
        sizes: Of the samples; a batch has samples of about one size.
        kinds: Of the samples; a batch has samples of one kind.
    """

    def __init__(self, sizes: Sequence[int], kinds: Sequence[int], *, batch_size: int, seed: int) -> None:
        self._sizes, self._kinds, self._batch_size, self._seed = sizes, kinds, batch_size, seed
        self._known = 0, self._of(0)
        self._per_epoch = len(self._known[1])  # the same in every epoch

    def at(self, step: int) -> list[int]:
        """Indices of the samples of a whole batch."""
        epoch, known = step // self._per_epoch, self._known
        if epoch != known[0]:
            # one value for both, as the batch of the next step is made by another thread
            self._known = known = epoch, self._of(epoch)
        return known[1][step % self._per_epoch]

    def _of(self, epoch: int) -> list[list[int]]:
        return batch_order(self._sizes, self._kinds, batch_size=self._batch_size, seed=self._seed, epoch=epoch)


def share_of(batch_size: int, *, process: int, processes: int) -> slice:
    """The part of a batch that one of several processes learns from."""
    share = batch_size // processes
    return slice(process * share, (process + 1) * share)
