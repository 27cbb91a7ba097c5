"""The loop: steps from shards, checkpoints every minute, exact on resume, on one CPU, one GPU or many (`accelerate`).

    accelerate launch -m mvgamba train reconstructor --config run.json      # or without `accelerate launch` on one device

What a step learns from follows from the seed and its number alone. A run that is killed goes on from its last checkpoint
and takes the same steps that it would have taken.
"""

import copy
import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvgamba.data.shards import read_shards
from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.reconstructor.network import parameter_groups
from mvgamba.reconstructor.ray_network import RayConfig, RayNetwork
from mvgamba.reconstructor.ray_reconstructor import load_ray_network, save_ray_network
from mvgamba.training.ray_batches import Ahead, RayBatch, batch_order, make_batch, patches_met
from mvgamba.training.ray_loss import RayLossWeights, ray_losses

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class TrainConfig:
    """A run. Everything that changes its result is here; a checkpoint refuses to go on under another."""

    data: str
    """Folder of shards, or several with the separator of search paths (`:`, on Windows `;`)."""
    network: RayConfig = field(default_factory=RayConfig)
    losses: RayLossWeights = field(default_factory=RayLossWeights)
    batch_size: int = 8
    """In all, over every process."""
    steps: int = 4000
    learning_rate: float = 1.5e-3
    least_learning_rate: float = 1e-5
    warm_up: int = 200
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0
    disturb: bool = True
    init: str | None = None
    """A file of weights to begin with, as `write_weights` makes them; None for random ones."""

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("steps", 1), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.ema < 1:
            raise InvalidInput(f"ema is {self.ema}; it must lie in [0, 1).")

    @staticmethod
    def read(path: Path) -> "TrainConfig":
        """Raises: InvalidInput for an unknown or missing field, naming it."""
        try:
            values = json.loads(path.read_text())
            values["network"] = RayConfig(**values.get("network", {}))
            values["losses"] = RayLossWeights(**values.get("losses", {}))
            return TrainConfig(**values)
        except (OSError, ValueError, TypeError) as error:
            raise InvalidInput(f"{path} is not a training configuration: {error}.") from error

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        half = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return self.least_learning_rate + half * (self.learning_rate - self.least_learning_rate)


class Trainer:
    """One run in one folder: checkpoint, log of losses, weights.

    Args:
        folder: Of the run. With a checkpoint in it, the run goes on from there.
        cpu: Do not look for a GPU.
    Raises:
        InvalidInput: The data cannot be read, or the checkpoint is of another configuration.
        Unavailable: `accelerate` is not installed.
    """

    def __init__(self, config: TrainConfig, folder: Path, *, cpu: bool = False) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise Unavailable("Training needs the package accelerate: pip install mvgamba[train].") from error

        # lets CPUs multiply in bfloat16 where they can, and takes AMD processors to kernels that are twice as fast
        torch.set_float32_matmul_precision("medium")
        self.config, self.folder = config, folder
        self.accelerator = Accelerator(cpu=cpu)
        self.samples = read_shards(*(Path(folder) for folder in config.data.split(os.pathsep)))
        every = range(len(self.samples))
        self.sizes = [patches_met(self.samples.field(i, "hit"), config.network.patch_size) for i in every]
        self.kinds = [int(self.samples.field(i, "num_given")) for i in every]
        first = batch_order(self.sizes, self.kinds, batch_size=config.batch_size, seed=config.seed, epoch=0)
        self._per_epoch = len(first)  # the same in every epoch
        if config.batch_size % self.accelerator.num_processes or not first:
            most = max(self.kinds.count(k) for k in set(self.kinds))
            raise InvalidInput(
                f"batch_size is {config.batch_size}; it must be a multiple of {self.accelerator.num_processes} processes "
                f"and at most the {most} samples there are of one number of views."
            )
        torch.manual_seed(config.seed)
        network = RayNetwork(config.network) if config.init is None else load_ray_network(Path(config.init))
        if network.config != config.network:
            raise InvalidInput(f"{config.init} holds a network of {network.config}; the run asks for {config.network}.")
        self.average = copy.deepcopy(network).requires_grad_(False).to(self.accelerator.device)
        optimiser = torch.optim.AdamW(
            parameter_groups(network, weight_decay=config.weight_decay), lr=1.0, betas=(0.9, 0.95)
        )
        self.network, self.optimiser = self.accelerator.prepare(network, optimiser)
        self.step = 0
        self._orders: dict[int, list[list[int]]] = {}
        self._ahead = Ahead(self.batch)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._resume()

    @property
    def bare(self) -> RayNetwork:
        """The network without what `accelerate` wraps around it."""
        network = self.accelerator.unwrap_model(self.network)
        assert isinstance(network, RayNetwork)
        return network

    def run(
        self,
        *,
        until: int | None = None,
        checkpoint_seconds: float = 60.0,
        report: Callable[[int, dict[str, float], float], None] | None = None,
    ) -> None:
        """All steps that are left, or those before `until`.

        Args:
            report: Called every ten steps with the step, the mean losses since then, and the seconds left.
        """
        last = min(self.config.steps, until if until is not None else self.config.steps)
        begin, first, saved = time.perf_counter(), self.step, time.perf_counter()
        sums: dict[str, float] = {}
        while self.step < last:
            losses = self._one_step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / 10
            if self.step % 10 == 0:
                self._log(sums)
                if report is not None:
                    pace = (time.perf_counter() - begin) / (self.step - first)
                    report(self.step, sums, pace * (last - self.step))
                sums = {}
            if time.perf_counter() - saved > checkpoint_seconds:
                self.save()
                saved = time.perf_counter()
        self.save()
        # a process that leaves takes the connections of the others with it
        self.accelerator.wait_for_everyone()

    def batch(self, step: int) -> RayBatch:
        """What a step learns from, this process' share of it."""
        size, processes = self.config.batch_size, self.accelerator.num_processes
        epoch = step // self._per_epoch
        if epoch not in self._orders:
            order = batch_order(self.sizes, self.kinds, batch_size=size, seed=self.config.seed, epoch=epoch)
            self._orders = {epoch: order}
        picked = [self.samples[i] for i in self._orders[epoch][step % self._per_epoch]]
        generator = np.random.default_rng([self.config.seed, 1, step]) if self.config.disturb else None
        whole = make_batch(picked, generator=generator)
        share = size // processes
        mine = slice(self.accelerator.process_index * share, (self.accelerator.process_index + 1) * share)
        return RayBatch(whole.planes[mine], whole.targets[mine], whole.num_given)

    def _one_step(self) -> dict[str, float]:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate_at(self.step)
        batch = self._ahead(self.step).to(self.accelerator.device)
        self.network.train()
        output, packed = self.network(batch.planes)
        losses = ray_losses(
            output, packed, batch.targets, num_given=batch.num_given, weights=config.losses,
            mean_count=lambda count: self.accelerator.reduce(count, "mean"),
        )  # fmt: skip
        self.accelerator.backward(losses["total"])
        self.accelerator.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        # a short memory at first, so that the average does not remember the start
        keep = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.bare.parameters(), strict=True):
                mean.lerp_(now.detach(), 1 - keep)
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _log(self, sums: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            line = {"step": self.step, "lr": self.config.learning_rate_at(self.step - 1)} | sums
            with (self.folder / "losses.jsonl").open("a") as out:
                out.write(json.dumps({k: round(v, 6) for k, v in line.items()}) + "\n")

    def save(self) -> None:
        """The state of the run, replaced at once, so that a kill at any time leaves a whole file."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "network": self.bare.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.folder / (CHECKPOINT + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.folder / CHECKPOINT)

    def close(self) -> None:
        """Let go of the other processes, if any. The trainer is of no use afterwards."""
        self._ahead.close()
        self.accelerator.end_training()

    def write_weights(self) -> Path:
        """The average of the weights, as the reconstructor `ray` loads it."""
        path = self.folder / "ray.safetensors"
        if self.accelerator.is_main_process:
            save_ray_network(self.average, path)
        return path

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True)
        if state["config"] != dataclasses.asdict(self.config):
            changed = [k for k, v in dataclasses.asdict(self.config).items() if state["config"].get(k) != v]
            raise InvalidInput(
                f"The run in {self.folder} has another configuration ({', '.join(changed)}). Go on with the old one, or "
                "name an empty folder."
            )
        self.bare.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self._forget_lines_after(self.step)
        log.info("going on at step %d of %d", self.step, self.config.steps)

    def _forget_lines_after(self, step: int) -> None:
        """Of the log: steps after the checkpoint are taken again."""
        path = self.folder / "losses.jsonl"
        if path.exists() and self.accelerator.is_main_process:
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in kept))
