"""Train the embedded model from a folder of texts: ``python -m pythia.embedded.train --text-dir T --out O``.

The run is a function of the text, the recipe and the number of CPU threads. Window offsets and their order
are drawn from (seed, epoch), dropout from (seed, step); no generator has a state that must survive an
interruption, so a resumed run gives the same bits as one that was never stopped.

Every window begins with the end-of-text token: the model sees it in front of anything, and so learns what
follows when nothing is known. The schedule decides when to stop; held-out text is never looked at here.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.nn import functional as F
from transformers import GPTNeoXForCausalLM

from pythia.embedded.architecture import Shape, build_model, export, train_tokenizer
from pythia.embedded.text import Novel, fingerprint, read_novels
from pythia.embedded.windows import Ids, batches_per_epoch, encode, epoch_batches
from sensverify.errors import InputError, Interrupted

RECORD = "training.json"
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Recipe:
    """Everything but the text that decides the weights."""

    shape: Shape = field(default_factory=Shape)
    epochs: int = 8
    batch: int = 8
    learning_rate: float = 4e-3
    final_share: float = 0.02
    warm_up_steps: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.97)
    clip: float = 1.0
    dropout: float = 0.1
    seed: int = 0


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to ``final_share`` of the peak at the last step."""
    if step < recipe.warm_up_steps:
        return recipe.learning_rate * (step + 1) / recipe.warm_up_steps
    progress = (step - recipe.warm_up_steps) / max(1, total - recipe.warm_up_steps)
    floor = recipe.final_share
    return recipe.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: GPTNeoXForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; weight decay acts on matrices, not on biases and normalisation gains."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def window_loss(model: GPTNeoXForCausalLM, windows: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of each token of windows [batch, context + 1] given those before it."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


@dataclass
class Run:
    """A training run in progress: what a checkpoint holds, and how to take one more step."""

    recipe: Recipe
    documents: list[Ids]
    text: str
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.per_epoch = batches_per_epoch(self.documents, context=self.recipe.shape.context, batch=self.recipe.batch)
        self.total = self.per_epoch * self.recipe.epochs
        model = build_model(self.recipe.shape, dropout=self.recipe.dropout, seed=self.recipe.seed)
        self.model = model.to(self.device).train()
        self.optimizer = make_optimizer(self.model, self.recipe)

    @property
    def identity(self) -> str:
        """What a checkpoint must share with the run that resumes it: recipe and text."""
        return json.dumps({"recipe": asdict(self.recipe), "text": self.text}, sort_keys=True)

    def save(self, path: Path) -> None:
        """Write a checkpoint; a crash while writing leaves the previous one in place."""
        state = {
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Take up a checkpoint of the same recipe and text.

        Raises:
            InputError: there is none, or it belongs to another recipe or text.
        """
        if not path.is_file():
            raise InputError(expected=f"a checkpoint at {path}", got="none", remedy="drop --resume")
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if state["identity"] != self.identity:
            raise InputError(
                expected="a checkpoint of the same recipe and text",
                got=f"another one at {path}",
                remedy="repeat the first run's options, or start afresh in another --out",
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = [tuple(point) for point in state["curve"]]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def batches(self) -> Iterator[torch.Tensor]:
        """The batches [batch, context + 1] from the present step to the last."""
        recipe, skipped = self.recipe, self.step % self.per_epoch
        for epoch in range(self.step // self.per_epoch, recipe.epochs):
            batches = epoch_batches(
                self.documents,
                context=recipe.shape.context,
                batch=recipe.batch,
                seed=recipe.seed,
                epoch=epoch,
            )
            for batch in itertools.islice(batches, skipped, None):
                yield torch.from_numpy(batch)
            skipped = 0

    def advance(self, batch: torch.Tensor) -> float:
        """Take one step; return the batch's loss in nats per token."""
        started = time.perf_counter()
        # Dropout takes no generator of its own, so the global one is seeded from (seed, step) each time.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.total, self.recipe)
        loss = window_loss(self.model, batch.to(self.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        value = float(loss.detach())
        self.seconds += time.perf_counter() - started
        return value


def train(run: Run, checkpoint: Path, *, stop_at: int | None = None, every: int = 200) -> Run:
    """Train ``run`` to its last step, or to step ``stop_at``, writing ``checkpoint`` on the way.

    Raises:
        Interrupted: the user stopped the run; what was done is in the checkpoint.
    """
    recent: list[float] = []
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            for batch in run.batches():
                if stop_at is not None and run.step >= stop_at:
                    break
                recent.append(run.advance(batch))
                if run.step % every == 0 or run.step == run.total:
                    run.curve.append((run.step, round(sum(recent) / len(recent), 4)))
                    recent.clear()
                    run.save(checkpoint)
                    report(run)
        except KeyboardInterrupt as error:
            raise Interrupted(f"stopped; go on from {checkpoint} with --resume") from error
    run.save(checkpoint)
    return run


def report(run: Run) -> None:
    """One line of progress on stderr."""
    step, loss = run.curve[-1]
    left = run.seconds / run.step * (run.total - run.step)
    sys.stderr.write(f"step {step}/{run.total}  {loss:.3f} nats/token  {run.seconds:.0f} s, about {left:.0f} s left\n")
    sys.stderr.flush()


def usable_devices() -> tuple[str, ...]:
    """The kinds of device that this machine can train on."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def machine(device: torch.device) -> str:
    """The kind of machine, in words: no name and no path of it."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return f"CPU ({kind}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def record(run: Run, novels: Sequence[Novel]) -> dict[str, Any]:
    """What the model card says about the run, as JSON."""
    return {
        "schema": 1,
        "recipe": asdict(run.recipe),
        "text_sha256": run.text,
        "novels": {
            novel.name: {
                "training_characters": len(novel.training),
                "held_out_characters": len(novel.held_out),
            }
            for novel in novels
        },
        "training_tokens": sum(len(ids) for ids in run.documents),
        "steps": run.step,
        "tokens_seen": run.step * run.recipe.batch * run.recipe.shape.context,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "machine": machine(run.device),
        "seconds": round(run.seconds),
        "loss_curve_nats_per_token": run.curve,
    }


def main(
    text_dir: Annotated[Path, typer.Option(help="Folder of .txt files in UTF-8, one document each.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the finished model.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training text.")] = Recipe.epochs,
    batch: Annotated[int, typer.Option(min=1, help="Windows in a step.")] = Recipe.batch,
    vocabulary: Annotated[int, typer.Option(min=257, help="Tokens in all.")] = Shape.vocabulary,
    hidden_size: Annotated[int, typer.Option(min=8, help="Residual width.")] = Shape.hidden_size,
    context: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = Shape.context,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, windows and dropout.")] = Recipe.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; part of what fixes the bits.")] = 2,
) -> None:
    """Train the tokenizer and the model, and write both to OUT in Hugging Face layout."""
    try:
        if device not in usable_devices():
            raise InputError(
                expected=f"a device out of {', '.join(usable_devices())}",
                got=device,
                remedy="pass --device cpu",
            )
        torch.set_num_threads(threads)
        novels = read_novels(text_dir)
        tokenizer = train_tokenizer([novel.training for novel in novels], vocabulary)
        shape = Shape(vocabulary=vocabulary, hidden_size=hidden_size, context=context)
        run = Run(
            recipe=Recipe(shape=shape, epochs=epochs, batch=batch, seed=seed),
            documents=encode(tokenizer, [novel.training for novel in novels]),
            text=fingerprint(novels),
            device=torch.device(device),
        )
        out.mkdir(parents=True, exist_ok=True)
        if resume:
            run.load(out / CHECKPOINT)
        train(run, out / CHECKPOINT)
        export(run.model, tokenizer, out)
        (out / RECORD).write_text(json.dumps(record(run, novels), indent=1) + "\n", encoding="utf-8")
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from error
    except Interrupted as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(3) from error


if __name__ == "__main__":
    typer.run(main)
