"""The network forward beside its matrix products alone: how much everything else costs."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import PRESETS
from tests.benchmarks.rows import Row, fastest


def products_of(network: MVGambaNetwork, images: Tensor) -> list[Callable[[], Tensor]]:
    """One call for every convolution of patches and linear layer that a forward pass runs, on inputs of the same shapes."""
    config = network.config
    calls: list[Callable[[], Tensor]] = []
    patches = images.flatten(0, 1)
    conv = network.map_image
    calls.append(lambda: F.conv2d(patches, conv.weight, conv.bias, stride=config.patch_size))
    widths = {m.in_features for m in network.modules() if isinstance(m, nn.Linear) and m.in_features > 64}
    widths.add(config.step_rank)
    inputs = {width: torch.randn(images.shape[0], config.num_tokens, width) for width in widths}

    def product(layer: nn.Linear, bias: bool) -> Callable[[], Tensor]:
        return lambda: F.linear(inputs[layer.in_features], layer.weight, layer.bias if bias else None)

    for block in network.transformer.layers:
        mixer = block.mamba_block.mixer
        for layer in (mixer.in_proj, mixer.x_proj, mixer.dt_proj, mixer.out_proj):
            calls.append(product(layer, False))  # the bias of dt_proj is the scan's
    for module in (*network.decoder.mlp_net.modules(), *network.decoder.gs_layer.children()):
        if isinstance(module, nn.Linear):
            calls.append(product(module, True))
    return calls


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this benchmark; `quick` has sizes that only show that it runs."""
    config = PRESETS["paper"]
    if quick:
        config = config.replace(num_layers=1, image_size=56)
    torch.manual_seed(0)
    network = MVGambaNetwork(config).eval()
    images = torch.randn(1, config.num_views, 9, config.image_size, config.image_size)

    def run_products() -> None:
        for call in products:
            call()  # one result at a time: keeping them all would charge the products for gigabytes of fresh memory

    with torch.inference_mode():
        products = products_of(network, images)
        best = fastest({"ours": lambda: network(images), "products": run_products}, rounds=2, warm_ups=0)
    size = f"{config.num_layers} layers x {config.width}, {config.num_tokens} tokens"
    yield Row(
        "network forward", size, best["ours"], "its GEMMs alone", best["products"], None if quick else "ratio <= 1.6"
    )
