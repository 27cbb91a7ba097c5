"""One training step of a published preset, measured on this CPU beside what `scale_out` counts, alone and shared by processes.

Times are those of the processor, on one thread, so that other programs disturb them little.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvgamba.errors import Unavailable
from mvgamba.kernels.selective_scan import selective_scan
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.training.scale_out import Work, kept_bytes, parameters, step_work
from mvgamba.types import Surfels


@dataclass(frozen=True)
class Rates:
    """How fast this processor does each kind of work alone."""

    matrix_flops: float
    bandwidth: float
    scan_forward: float
    scan_backward: float
    """Seconds for a token, channel and state."""

    def seconds(self, work: Work, forward_steps: float) -> float:
        """Of a step, of which `forward_steps` are scanned forward; all else of the scan is backward."""
        scan = forward_steps * self.scan_forward
        scan += (work.scan_steps - forward_steps) / 2 * self.scan_backward
        return work.matrix_flops / self.matrix_flops + work.traffic / self.bandwidth + scan


@dataclass(frozen=True)
class StepCheck:
    """One size, counted and measured."""

    tokens: int
    num_layers: int
    recompute: bool
    seconds: float
    expected_seconds: float
    kept: int
    """Bytes that autograd kept for the backward pass."""
    expected_kept: float


@dataclass(frozen=True)
class Share:
    """What one of several processes had to do in a step."""

    processes: int
    batch: int
    """In all."""
    cpu_seconds: list[float]
    """Of each process, forward and backward; the reduction is in it."""
    matrix_flops: int
    """Of this process' share, forward and backward."""
    reduced_bytes: int
    """That each process put into the reduction; 0 where there is one only."""
    parameters: int
    is_first: bool
    """Of the process that asks."""


def measure_rates(config: NetworkConfig) -> Rates:
    """Matrix products, streams and scans of the network's widths, each alone."""
    c, e, n, m = config.width, config.inner_width, config.state_size, 2048
    with _one_thread():
        x, w = torch.randn(m, c), torch.randn(c, 2 * e)
        product = _best(lambda: x @ w)
        a, b, out = torch.randn(m, 4 * e), torch.randn(m, 4 * e), torch.empty(m, 4 * e)
        stream = _best(lambda: torch.add(a, b, out=out))
        u, delta, z = (torch.randn(1, m, e, requires_grad=True) for _ in range(3))
        rows = [torch.randn(1, m, n, requires_grad=True) for _ in range(2)]
        decay = -torch.rand(e, n)

        def scan() -> Tensor:
            return selective_scan(u, delta, decay, *rows, torch.ones(e), z=z, delta_softplus=True).y

        ahead = _best(scan)
        both = _best(lambda: scan().sum().backward())
    steps = m * e * n
    return Rates(2 * m * c * 2 * e / product, 3 * 4 * out.numel() / stream, ahead / steps, (both - ahead) / steps)


def check_step(config: NetworkConfig, rates: Rates, *, recompute: bool) -> StepCheck:
    """One forward and backward pass in float32, the better of two, and the bytes that it keeps."""
    network = _network(config, recompute)
    images = torch.randn(1, config.num_views, 9, config.image_size, config.image_size)
    with _one_thread():
        seconds = _best(lambda: _loss(network(images)).backward(), tries=2)
        kept = kept_of(network, images)
    work = step_work(config, recompute=recompute, half=False)
    forward = (
        (2.0 if recompute else 1.0) * config.num_layers * config.num_tokens * config.inner_width * config.state_size
    )
    return StepCheck(
        config.num_tokens,
        config.num_layers,
        recompute,
        seconds,
        rates.seconds(work, forward),
        kept,
        kept_bytes(config, recompute=recompute, half=False),
    )


def kept_of(network: MVGambaNetwork, images: Tensor, *, half: bool = False) -> int:
    """Bytes of all that autograd keeps of one forward pass, each storage once, without the weights and their copies."""
    own = {t.untyped_storage().data_ptr() for t in [*network.parameters(), *network.buffers()]}
    shapes = {tuple(p.shape) for p in network.parameters()} | {tuple(p.shape[::-1]) for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and not (tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = _loss(network(images))
        total = sum(kept.values())
        del loss
    return total


def share_step(config: NetworkConfig, *, batch: int, steps: int = 3) -> Share:
    """Forward and backward passes of a batch that is shared by all processes of `accelerate launch`, on CPUs.

    Raises: Unavailable, without accelerate or if the batch cannot be shared evenly.
    """
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise Unavailable("This needs the package accelerate: pip install mvgamba[train].") from error
    accelerator = Accelerator(cpu=True)
    if batch % accelerator.num_processes:
        raise Unavailable(f"A batch of {batch} cannot be shared evenly by {accelerator.num_processes} processes.")
    network = accelerator.prepare(_network(config, False))
    reduced = _count_reduced(network)
    share = batch // accelerator.num_processes
    images = torch.randn(share, config.num_views, 9, config.image_size, config.image_size)
    spent = []
    with _one_thread():
        with FlopCounterMode(display=False) as counter:  # and warms up
            accelerator.backward(_loss(network(images)))
        for _ in range(steps):
            reduced[0] = 0
            begin = time.process_time()
            accelerator.backward(_loss(network(images)))
            spent.append(time.process_time() - begin)
    mine = torch.tensor([min(spent)])
    everyone: list[float] = accelerator.gather(mine).tolist()
    processes, is_first = accelerator.num_processes, accelerator.is_main_process
    accelerator.wait_for_everyone()  # a process that leaves takes the connections of the others with it
    accelerator.end_training()
    flops = counter.get_total_flops()
    return Share(processes, batch, everyone, flops, reduced[0], parameters(config), is_first)


def _count_reduced(network: nn.Module) -> list[int]:
    """A cell that counts the bytes of the gradients that are handed to the reduction."""
    cell = [0]
    if isinstance(network, nn.parallel.DistributedDataParallel):
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        def hook(state: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
            cell[0] += bucket.buffer().numel() * bucket.buffer().element_size()
            return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # None is all processes

        network.register_comm_hook(None, hook)
    return cell


def _network(config: NetworkConfig, recompute: bool) -> MVGambaNetwork:
    torch.manual_seed(0)
    network = MVGambaNetwork(config).train()
    network.transformer.save_memory = recompute
    return network


def _loss(surfels: Surfels) -> Tensor:
    """Of all that the network gives, so that every weight has a gradient. Rendering is planned apart."""
    values = (surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors)
    return torch.stack([v.square().mean() for v in values]).sum()


def _best(run: Callable[[], object], *, tries: int = 3) -> float:
    """Seconds of the processor that the quickest of some runs takes."""
    run()
    spent = []
    for _ in range(tries):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    return min(spent)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
