"""What training a published preset would take on 1 to 256 GPUs: a model on paper of one step's work, memory and messages.

Work is counted from the sizes of the network; how fast a GPU does it is its published peak times a stated efficiency. The counts
are held against measurements on a CPU by `step_profile`. No GPU has run any of it; the README has the table and what is assumed.
"""

import math
from dataclasses import dataclass

from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.reconstructor.rotations import ROTATION_WIDTHS

CHUNK = 32
"""Steps between two states that the scan keeps for its backward pass."""
GPUS_PER_NODE = 8
GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Gpu:
    """Published figures of one GPU and of the links that it usually has."""

    name: str
    matrix_flops: float
    """bfloat16, dense, per second."""
    exponentials: float
    """Per second: 16 a clock and multiprocessor."""
    bandwidth: float
    """Of its memory, bytes per second."""
    memory: float
    """Bytes."""
    link_in_node: float
    link_between: float
    """Bytes per second and direction: NVLink or PCIe; one network card a GPU."""


GPUS = {
    g.name: g
    for g in (
        Gpu("h100", 989e12, 132 * 16 * 1.83e9, 3.35e12, 80e9, 450e9, 50e9),
        Gpu("h200", 989e12, 132 * 16 * 1.83e9, 4.8e12, 141e9, 450e9, 50e9),
        Gpu("a100-80", 312e12, 108 * 16 * 1.41e9, 2.04e12, 80e9, 300e9, 25e9),
        Gpu("a100-40", 312e12, 108 * 16 * 1.41e9, 1.555e12, 40e9, 300e9, 25e9),
        Gpu("l40s", 362e12, 142 * 16 * 2.52e9, 0.864e12, 48e9, 32e9, 25e9),
        Gpu("rtx4090", 165e12, 128 * 16 * 2.52e9, 1.008e12, 24e9, 32e9, 3e9),
    )
}


@dataclass(frozen=True)
class Assumed:
    """What is neither counted nor measured. Change it here, or hand another one to `plan`."""

    matrix: float = 0.5
    """Share of the peak that matrix products reach."""
    bandwidth: float = 0.7
    exponentials: float = 0.3
    links: float = 0.8
    latency: float = 10e-6
    """Seconds for each of the 2 (n - 1) messages of a ring."""
    overlap: float = 0.8
    """Share of the reduction that may hide behind the backward pass of the last micro-batch."""
    usable_memory: float = 0.9
    reserved: float = 2e9
    """Bytes of the CUDA context, libraries and the allocator."""
    launch: float = 8e-6
    """Seconds of the host for each kernel, below which a step cannot go."""
    launches_per_layer: int = 60
    """Kernels of a layer, forward; as many in a recomputation, twice as many backward."""
    launches_of_loss: int = 4000
    views: int = 10
    """Rendered at 512 x 512 for the loss, as in the paper."""
    render_seconds: float = 2e-3
    """For one view, forward and backward."""
    render_bytes: float = 32e6
    """Kept for one view."""


@dataclass(frozen=True)
class Work:
    """Of one sample, forward and backward."""

    matrix_flops: float
    traffic: float
    """Bytes that go through memory beside matrix products: additions, norms, convolutions, conversions."""
    scan_traffic: float
    scan_steps: float
    """Steps of a state, in units of a forward scan: token x channel x state."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.matrix_flops + other.matrix_flops,
            self.traffic + other.traffic,
            self.scan_traffic + other.scan_traffic,
            self.scan_steps + other.scan_steps,
        )

    def __mul__(self, factor: float) -> "Work":
        return Work(*(factor * x for x in (self.matrix_flops, self.traffic, self.scan_traffic, self.scan_steps)))


BACKWARD_SCAN = 2.0
"""Exponentials of a backward scan, in forward ones: the states are made anew, then their gradients."""


def parameters(config: NetworkConfig) -> int:
    """Numbers that are learned."""
    c, e, n, r, h = config.width, config.inner_width, config.state_size, config.step_rank, config.mlp_width
    layer = e * (2 * c + config.conv_size + 1 + r + 2 * n + r + 1 + n + 1 + c) + c
    patch = c * (9 * config.patch_size**2 + 1)
    decoder = h * (c + 1) + c * (h + 1) + _heads(config) * (c + 1)
    return config.num_layers * layer + patch + config.num_tokens * c + c + decoder


def layer_forward(config: NetworkConfig, *, half: bool) -> Work:
    """One layer, forward. `half`: products in bfloat16, the residual stream and the scan in float32, as `autocast` has it."""
    c, e, n, r, m = config.width, config.inner_width, config.state_size, config.step_rank, float(config.num_tokens)
    products = 2 * (c * 2 * e + e * (r + 2 * n) + r * e + e * c)
    # add 3 and norm 2 of width C, the convolution in and out; in half, conversions, and a convolution of eight passes
    traffic = 24 * c + 56 * e if half else 20 * c + 8 * e
    return Work(m * products, m * traffic, m * 4 * 6 * e, m * e * n)


def layer_backward(config: NetworkConfig, *, half: bool) -> Work:
    """One layer, backward, from what it kept."""
    forward = layer_forward(config, half=half)
    scan_traffic = config.num_tokens * 4 * 11.5 * config.inner_width
    return Work(2 * forward.matrix_flops, 2 * forward.traffic, scan_traffic, BACKWARD_SCAN * forward.scan_steps)


def ends_forward(config: NetworkConfig, *, half: bool) -> Work:
    """Patches, positions, the last norm and the decoder, forward."""
    c, h, m = config.width, config.mlp_width, float(config.num_tokens)
    patches = m / config.num_scans * 9 * config.patch_size**2 * c
    products = 2 * (patches + m * (2 * c * h + c * _heads(config)))
    size = 2 if half else 4
    return Work(products, m * (32 * c + 2 * size * (h + c)), 0.0, 0.0)


def step_work(config: NetworkConfig, *, recompute: bool, half: bool) -> Work:
    """One sample of a training step without its loss."""
    layer = layer_forward(config, half=half) * (2.0 if recompute else 1.0) + layer_backward(config, half=half)
    return layer * float(config.num_layers) + ends_forward(config, half=half) * 3.0


def kept_bytes(config: NetworkConfig, *, recompute: bool, half: bool) -> float:
    """What one sample keeps for the backward pass, without copies of weights."""
    c, m = config.width, float(config.num_tokens)
    layers = config.num_layers * layer_bytes(config, half=half)
    if recompute:
        # the first layer has no residual yet, and what it adds up is its input
        layers = config.num_layers * (4 * c + (2 if half else 4) * c) - 8 * c
    mlp = 2 * 2 * config.mlp_width + 4 * 2 * c + 2 * 3 * c if half else 4 * (2 * config.mlp_width + 5 * c)
    images = config.num_views * 9 * config.image_size**2 * 4
    return m * (layers + mlp + 4 * (_heads(config) + 14)) + images


def layer_bytes(config: NetworkConfig, *, half: bool) -> float:
    """What a layer keeps of a token. The scan takes float32, so bfloat16 saves little."""
    c, e, n, r = config.width, config.inner_width, config.state_size, config.step_rank
    states = e * n / CHUNK
    if half:
        return 4 * (4 * e + states + 2 * c + 2 * n + 1) + 2 * (c + r + 2 * n + 2 * e)
    return 4 * (5 * e + states + 3 * c + r + 2 * n + 2)


def _heads(config: NetworkConfig) -> int:
    return 3 * config.num_bins + 1 + config.scale_width + ROTATION_WIDTHS[config.rotation_head] + 3


# LPIPS with VGG-16 at 256 x 256: products of its 13 convolutions (15.35e9 at 224 x 224), and what they and the pools put out
_VGG_FLOPS = 2 * 15.35e9 * (256 / 224) ** 2
_VGG_NUMBERS = 17.7e6 + 4.4e6


@dataclass(frozen=True)
class Row:
    """A training run on so many GPUs."""

    gpus: int
    samples: int
    """Of a step, on each GPU."""
    micro_batch: int
    accumulation: int
    memory: float
    """Bytes on each GPU."""
    compute: float
    """Seconds of a step."""
    reduction: float
    """Seconds that the gradients take around the ring."""
    waiting: float
    """Of these, those that no computation hides."""
    steps: int
    limit: str

    @property
    def step_seconds(self) -> float:
        return self.compute + self.waiting

    @property
    def days(self) -> float:
        return self.steps * self.step_seconds / 86400


def sample_seconds(config: NetworkConfig, gpu: Gpu, assumed: Assumed, *, recompute: bool) -> dict[str, float]:
    """Of one sample on one GPU, by what takes them."""
    work = step_work(config, recompute=recompute, half=True)
    # the rendered view forward and backward to its pixels, the true one forward
    loss = 3 * _VGG_FLOPS * assumed.views
    # each pass of the scan over a chunk takes its exponentials twice
    return {
        "products": (work.matrix_flops + loss) / (gpu.matrix_flops * assumed.matrix),
        "memory traffic": (work.traffic + work.scan_traffic) / (gpu.bandwidth * assumed.bandwidth),
        "scan": 2 * work.scan_steps / (gpu.exponentials * assumed.exponentials),
        "rendering": assumed.views * assumed.render_seconds,
    }


def fixed_bytes(config: NetworkConfig, assumed: Assumed) -> float:
    """Weights, gradients, two moments, the average, buckets of the reduction (4 bytes each) and copies in bfloat16."""
    return float(parameters(config)) * (4 * 6 + 2) + assumed.reserved


def sample_bytes(config: NetworkConfig, assumed: Assumed, *, recompute: bool) -> float:
    """Of one sample at the peak: what is kept, one layer being recomputed with its gradients, and the loss."""
    layer = 2.0 * config.num_tokens * layer_bytes(config, half=True)
    loss = assumed.views * (2 * _VGG_NUMBERS + assumed.render_bytes)
    return kept_bytes(config, recompute=recompute, half=True) + layer + loss


def ring_seconds(num_bytes: float, gpus: int, gpu: Gpu, assumed: Assumed) -> float:
    """An all-reduce around a ring: 2 (n - 1) / n of the bytes through the slowest link, and the latency of its messages."""
    link = gpu.link_in_node if gpus <= GPUS_PER_NODE else gpu.link_between
    return 2 * (gpus - 1) / gpus * num_bytes / (link * assumed.links) + 2 * (gpus - 1) * assumed.latency


def plan(
    config: NetworkConfig,
    gpu: Gpu,
    *,
    batch: int = 512,
    objects: int = 80_000,
    epochs: int = 300,
    recompute: bool = True,
    gpu_counts: tuple[int, ...] = GPU_COUNTS,
    assumed: Assumed | None = None,
) -> list[Row]:
    """A row for each number of GPUs; the defaults are those of the paper.

    Raises: InvalidInput, if a number is not positive, the batch does not divide or not even one sample fits.
    """
    assumed = assumed or Assumed()
    for name, value in (("batch", batch), ("objects", objects), ("epochs", epochs), ("gpus", min(gpu_counts))):
        if value < 1:
            raise InvalidInput(f"{name} is {value}; it must be at least 1.")
    room = gpu.memory * assumed.usable_memory - fixed_bytes(config, assumed)
    each = sample_bytes(config, assumed, recompute=recompute)
    most = math.floor(room / each)
    if most < 1:
        raise InvalidInput(
            f"One sample takes {each / 1e9:.1f} GB beside {fixed_bytes(config, assumed) / 1e9:.1f} GB of weights and optimiser; "
            f"a {gpu.name} has {gpu.memory / 1e9:.0f} GB. Recompute layers, or take a GPU with more memory."
        )
    return [
        _row(config, gpu, n, batch=batch, steps=math.ceil(objects * epochs / batch), most=most,
             recompute=recompute, assumed=assumed)
        for n in gpu_counts
    ]  # fmt: skip


def _row(
    config: NetworkConfig, gpu: Gpu, n: int, *, batch: int, steps: int, most: int, recompute: bool, assumed: Assumed
) -> Row:
    if batch % n:
        raise InvalidInput(f"A batch of {batch} cannot be shared evenly by {n} GPUs. Choose a multiple of {n}.")
    samples = batch // n
    accumulation = math.ceil(samples / most)
    while samples % accumulation:
        accumulation += 1
    micro = samples // accumulation
    parts = sample_seconds(config, gpu, assumed, recompute=recompute)
    device = samples * sum(parts.values())
    passes = 4 if recompute else 3
    launches = passes * assumed.launches_per_layer * config.num_layers + assumed.launches_of_loss
    host = accumulation * launches * assumed.launch
    compute = max(device, host)
    reduction = ring_seconds(4.0 * parameters(config), n, gpu, assumed)
    # of the last micro-batch, what comes after its forward pass
    backward = compute / accumulation * (passes - 1) / passes
    waiting = reduction - min(assumed.overlap * reduction, backward)
    if host > device:
        limit = "too few samples"
    elif waiting > compute / 4:
        limit = "network"
    else:
        limit = max(parts, key=parts.__getitem__)
    if accumulation > 1 and limit not in ("network", "too few samples"):
        limit += "; memory holds only a part"
    memory = fixed_bytes(config, assumed) + micro * sample_bytes(config, assumed, recompute=recompute)
    return Row(n, samples, micro, accumulation, memory, compute, reduction, waiting, steps, limit)


def to_markdown(rows: list[Row]) -> str:
    """A table for people."""
    lines = [
        "| GPUs | samples each | micro-batch x times | GB each | s computing | ms reducing (waited for) | s a step | days | limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.gpus} | {r.samples} | {r.micro_batch} x {r.accumulation} | {r.memory / 1e9:.0f} | {r.compute:.2f} | "
        f"{1e3 * r.reduction:.1f} ({1e3 * r.waiting:.1f}) | {r.step_seconds:.2f} | {r.days:.1f} | {r.limit} |"
        for r in rows
    ]
    return "\n".join(lines)


def launch_commands(gpus: int) -> list[str]:
    """How `accelerate` starts so many processes: one line for each node, with its rank and the address of the first."""
    if gpus == 1:
        return [
            "accelerate launch --num_processes 1 --mixed_precision bf16 -m mvgamba train reconstructor --config run.json -o RUN/"
        ]
    nodes = math.ceil(gpus / GPUS_PER_NODE)
    several = f" --num_machines {nodes} --machine_rank RANK --main_process_ip FIRST --main_process_port 29500"
    where = several if nodes > 1 else ""
    return [
        f"accelerate launch --multi_gpu --num_processes {gpus}{where} --mixed_precision bf16 -m mvgamba train reconstructor --config run.json -o RUN/"
        + (f"   # on each node, RANK 0 to {nodes - 1}" if nodes > 1 else "")
    ]
