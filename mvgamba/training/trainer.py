"""The loop: steps from shards, checkpoints every minute, exact on resume, on one CPU, one GPU or many (`accelerate`).

    accelerate launch -m mvgamba train reconstructor --config run.json      # or without `accelerate launch` on one device

What a step learns from follows from the seed and its number alone. A run that is killed goes on from its last checkpoint
and takes the same steps that it would have taken.
"""

import copy
import dataclasses
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.reconstructor.network import parameter_groups
from mvgamba.training.config import Model
from mvgamba.training.config import TrainConfig as TrainConfig
from mvgamba.training.generator_task import GeneratorTask
from mvgamba.training.ray_task import RayTask
from mvgamba.training.run_log import RunLog
from mvgamba.training.surfel_task import SurfelTask
from mvgamba.training.task import Ahead, Batch, Task

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
TASKS: dict[Model, Callable[[TrainConfig], Task]] = {"ray": RayTask, "mvgamba": SurfelTask, "starter": GeneratorTask}


class Trainer:
    """One run in one folder: checkpoint, log of losses, weights.

    Args:
        folder: Of the run. With a checkpoint in it, the run goes on from there.
        cpu: Do not look for a GPU.
        task: What is trained; None for what the configuration names.
    Raises:
        InvalidInput: The data cannot be read, or the checkpoint is of another configuration.
        Unavailable: `accelerate` is not installed.
    """

    def __init__(self, config: TrainConfig, folder: Path, *, cpu: bool = False, task: Task | None = None) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise Unavailable("Training needs the package accelerate: pip install mvgamba[train].") from error

        # lets CPUs multiply in bfloat16 where they can, and takes AMD processors to kernels that are twice as fast
        torch.set_float32_matmul_precision("medium")
        self.config, self.folder = config, folder
        try:
            self.accelerator = Accelerator(cpu=cpu, mixed_precision=config.precision.replace("fp32", "no"))
        except ValueError as error:
            raise InvalidInput(f"Training in {config.precision} cannot begin: {error}.") from error
        self.task: Task = task if task is not None else TASKS[config.model](config)
        if config.batch_size % self.accelerator.num_processes or config.batch_size > self.task.num_samples:
            raise InvalidInput(
                f"batch_size is {config.batch_size}; it must be a multiple of {self.accelerator.num_processes} processes "
                f"and at most the {self.task.num_samples} samples there are of one number of views."
            )
        torch.manual_seed(config.seed)
        network = self.task.make_network()
        self.average = copy.deepcopy(network).requires_grad_(False).eval().to(self.accelerator.device)
        optimiser = torch.optim.AdamW(
            parameter_groups(network, weight_decay=config.weight_decay), lr=1.0, betas=(0.9, 0.95)
        )
        self.network, self.optimiser = self.accelerator.prepare(network, optimiser)
        self.step = 0
        self._ahead = Ahead(self.batch)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._resume()

    @property
    def bare(self) -> nn.Module:
        """The network without what `accelerate` wraps around it."""
        network: nn.Module = self.accelerator.unwrap_model(self.network)
        return network

    def run(
        self,
        *,
        until: int | None = None,
        checkpoint_seconds: float = 60.0,
        pictures_every: int = 500,
        report: Callable[[int, dict[str, float], float], None] | None = None,
    ) -> None:
        """All steps that are left, or those before `until`.

        Args:
            pictures_every: Steps between pictures of what the network says; 0 for none.
            report: Called every ten steps with the step, the mean losses since then, and the seconds left.
        """
        last = min(self.config.steps, until if until is not None else self.config.steps)
        begin, first, saved = time.perf_counter(), self.step, time.perf_counter()
        sums: dict[str, float] = {}
        records = RunLog(self.folder, after=self.step) if self.accelerator.is_main_process else None
        while self.step < last:
            losses = self._one_step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / 10
            if self.step % 10 == 0:
                if records is not None:
                    records.losses(self.step, {"lr": self.config.learning_rate_at(self.step - 1)} | sums)
                if report is not None:
                    pace = (time.perf_counter() - begin) / (self.step - first)
                    report(self.step, sums, pace * (last - self.step))
                sums = {}
            if records is not None and pictures_every and (self.step % pictures_every == 0 or self.step == last):
                batch = self.batch(self.step - 1).to(self.accelerator.device)
                records.pictures(self.step, self.task.pictures(self.average, batch, step=self.step))
            if time.perf_counter() - saved > checkpoint_seconds:
                self.save()
                saved = time.perf_counter()
        self.save()
        if records is not None:
            records.close()
        # a process that leaves takes the connections of the others with it
        self.accelerator.wait_for_everyone()

    def batch(self, step: int) -> Batch:
        """What a step learns from, this process' share of it."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        return self.task.batch(step, process=process, processes=processes)

    def _one_step(self) -> dict[str, float]:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate_at(self.step)
        batch = self._ahead(self.step).to(self.accelerator.device)
        # what the network itself draws (left out layers, noise of a choice) follows from seed and step as well
        numbers = np.random.SeedSequence([config.seed, 3, self.step, self.accelerator.process_index])
        torch.manual_seed(int(numbers.generate_state(1)[0]))
        self.network.train()
        losses = self.task.losses(
            self.network, batch, step=self.step,
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

    def write_weights(self) -> Path | None:
        """The average of the weights, as the reconstructor loads it. None on all processes but the first."""
        return self.task.write_weights(self.average, self.folder) if self.accelerator.is_main_process else None

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True)
        config = dataclasses.asdict(self.config)
        # a field that came after the checkpoint was written had what is now its default
        known = dataclasses.asdict(TrainConfig(data="")) | state["config"]
        if known != config:
            changed = [k for k, v in config.items() if known.get(k) != v]
            raise InvalidInput(
                f"The run in {self.folder} has another configuration ({', '.join(changed)}). Go on with the old one, or "
                "name an empty folder."
            )
        self.bare.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        log.info("going on at step %d of %d", self.step, self.config.steps)
