"""What a finished mesh is taken for.

from tests.benchmarks.prompt_judge.judge import Judge

verdict = Judge.with_own_weights().judge_glb(path)
verdict.category, verdict.top(3), verdict.colour, verdict.colour_shares
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mvgamba.evaluation.drawable import Drawable, read_drawable
from tests.benchmarks.prompt_judge.colours import ColourNames, read_colour_names
from tests.benchmarks.prompt_judge.network import JudgeNetwork, shapes_of
from tests.benchmarks.prompt_judge.pictures import JUDGED_ANGLES, planes_of, take_views

WEIGHTS_FILE = Path(__file__).parent / "judge.safetensors"
COLOUR_COUNTS_FROM = 0.2
"""Share of the visible area from which on a thing may be said to be in a colour, beside another."""


@dataclass(frozen=True)
class Verdict:
    """About one mesh."""

    categories: dict[str, float]
    """Probabilities, the largest first."""
    families: dict[str, float]
    """The five families of training objects that it looks most like, with probabilities: what the noun would be."""
    colour: str | None
    """The word that covers most of it; None where nothing can be seen."""
    colour_shares: dict[str, float]
    """Shares of the visible area, the largest first."""

    @property
    def category(self) -> str:
        return next(iter(self.categories))

    def top(self, count: int) -> list[str]:
        """The likeliest categories."""
        return list(self.categories)[:count]

    def shows(self, colour: str) -> bool:
        """Whether the colour is one of the two largest and covers a fifth of what can be seen."""
        return colour in list(self.colour_shares)[:2] and self.colour_shares[colour] >= COLOUR_COUNTS_FROM


@dataclass(frozen=True, eq=False)
class Judge:
    """The network with the names of its classes, and the names of colours. The same mesh always gets the same verdict."""

    network: JudgeNetwork
    categories: list[str]
    families: list[str]
    colours: ColourNames

    @staticmethod
    def with_own_weights() -> "Judge":
        """The fixed judge."""
        return read_judge(WEIGHTS_FILE)

    def judge_glb(self, path: Path) -> Verdict:
        """Raises: InvalidInput if the file cannot be read or holds no triangles."""
        return self.judge(read_drawable(path))

    def judge(self, drawable: Drawable) -> Verdict:
        """The mean of the logits over eight views."""
        views = take_views(drawable, JUDGED_ANGLES)
        with torch.no_grad():
            category, family = self.network.eval()(shapes_of(planes_of(views)))
        shares = self.colours.shares(views)
        return Verdict(
            _named(category, self.categories, len(self.categories)),
            _named(family, self.families, 5),
            next(iter(shares), None),
            shares,
        )


def _named(logits: torch.Tensor, names: list[str], count: int) -> dict[str, float]:
    shares, order = logits.mean(0).softmax(0).sort(descending=True, stable=True)
    return {names[i]: float(share) for i, share in list(zip(order.tolist(), shares.tolist()))[:count]}


def write_judge(network: JudgeNetwork, categories: list[str], families: list[str], path: Path) -> None:
    """In half precision, which changes no verdict and halves the file."""
    tensors = {name: t.half().contiguous() for name, t in network.state_dict().items() if t.is_floating_point()}
    save_file(tensors, path, {"categories": json.dumps(categories), "families": json.dumps(families)})


def read_judge(path: Path) -> Judge:
    """The network and its classes, with the colour names that come with it."""
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    categories, families = json.loads(header["categories"]), json.loads(header["families"])
    network = JudgeNetwork(len(categories), len(families))
    missing = network.load_state_dict(tensors, strict=False)
    # counters of batches are no weights
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys) and not missing.unexpected_keys
    return Judge(network.eval(), categories, families, read_colour_names())
