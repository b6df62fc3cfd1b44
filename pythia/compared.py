"""The groups of directions that are compared with each other, made once per run and layer.

*Found* by the search, *SAE* (decoder rows of a sparse autoencoder: the user's, or else our own), *random* (uniform on
the sphere of what the norm sees), *PCA* (principal components of the activations), and those found by the same search
on a *shuffled model*: a copy in which the entries of every weight matrix are permuted, so that all that training put
there is gone and all that the architecture and the sizes of the weights put there remains ([TM]'s control).
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pythia import subject
from pythia.loading import LanguageModel, weights_digest
from pythia.readout import LanguageModelReadout
from pythia.sae_training import default_options, train_sae
from pythia.saes import positions
from sensverify.claims import Run
from sensverify.discovery import search
from sensverify.errors import InputError
from sensverify.geometry import random_directions, unit_directions
from sensverify.sites import Site

FOUND, SAE, RANDOM, PCA, SHUFFLED = "found", "SAE", "random", "PCA", "shuffled model"
GROUPS = (FOUND, SAE, RANDOM, PCA, SHUFFLED)
RANDOM_DIRECTIONS = 64
QUICK_LATENTS, FULL_LATENTS = 64, 256
"""So many latents of an autoencoder stand for all of them that fire, drawn by the run's seed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaeGroup:
    """Latents of one autoencoder, drawn among those that fire: their unit directions ``[K, d]`` and which they are."""

    directions: Tensor
    latents: Tensor
    description: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for evidence."""
        return {**self.description, "compared": len(self.latents)}


def layers(run: Run) -> tuple[int, ...]:
    """The blocks after which one intervenes: that of :func:`pythia.subject.found`, or, in the full profile, all."""
    if run.profile == "quick":
        return (subject.searched_layer(run),)
    return tuple(range(subject.model(run).depth - 1))


def site(run: Run, layer: int) -> Site:
    """The run's model and text, intervened on after block ``layer``, read one block and one token later."""
    return subject.site(run, layer)


def directions(run: Run, layer: int | None = None) -> Mapping[str, Tensor]:
    """The groups :data:`GROUPS` as unit rows ``[K, d]``, by default at the layer of :func:`pythia.subject.found`."""
    at = subject.searched_layer(run) if layer is None else layer
    return run.shared(f"pythia.compared {at}", lambda: _directions(run, at))


def sae_group(run: Run, layer: int) -> SaeGroup:
    """The autoencoder's directions at this layer; made once per run."""
    return run.shared(f"pythia.sae {layer}", lambda: _sae_group(run, layer))


def shuffled_model(run: Run) -> LanguageModel:
    """A copy of the run's model with the entries of every weight matrix permuted; biases and norms are kept."""
    return run.shared("pythia.shuffled_model", lambda: shuffle_weights(subject.model(run), seed=run.seed))


def shuffle_weights(model: LanguageModel, *, seed: int) -> LanguageModel:
    """``model`` with the entries of every matrix permuted by ``seed``; tied matrices stay tied."""
    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return dataclasses.replace(
        model, name=f"{model.name}, weights shuffled", network=network, weights_sha256=weights_digest(network)
    )


def language_readouts(place: Site) -> tuple[LanguageModelReadout, LanguageModelReadout]:
    """The site's read-outs on search and held-out windows."""
    search_windows, held_out = place.search, place.held_out
    assert isinstance(search_windows, LanguageModelReadout)
    assert isinstance(held_out, LanguageModelReadout)
    return search_windows, held_out


def search_at(run: Run, place: Site, *, seed: int | None = None) -> Tensor:
    """The suite's one search at ``place``, unit rows ``[K, d]``; by default with the run's seed."""
    options = subject.search_options(run)
    if seed is not None:
        options = dataclasses.replace(options, seed=seed)
    state = search(place.search, options, progress=run.progress)
    return unit_directions(state.directions, place.search.centring)


def principal_components(readout: LanguageModelReadout, count: int) -> Tensor:
    """The ``count`` leading principal components of the centred activations, ``[count, d]``, unit rows.

    A component has no sign of its own; it is turned so that the activations' third moment along it is not negative:
    its long tail is where it is present.
    """
    width = readout.width
    total, sums, squares = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
    for rows in positions(readout):
        x = readout.centring.project(rows.double()).cpu()
        total, sums, squares = total + len(x), sums + x.sum(0), squares + x.T @ x
    mean = sums / total
    components = torch.linalg.eigh(squares / total - torch.outer(mean, mean)).eigenvectors.T.flip(0)[:count]
    third = torch.zeros(len(components)).double()
    for rows in positions(readout):
        x = readout.centring.project(rows.double()).cpu()
        third += ((x - mean) @ components.T).pow(3).sum(0)
    signs = torch.where(third < 0, -1.0, 1.0)[:, None]
    return unit_directions((components * signs).float(), readout.centring)


def _directions(run: Run, layer: int) -> Mapping[str, Tensor]:
    readout, _ = language_readouts(site(run, layer))
    generator = torch.Generator(device=readout.device).manual_seed(run.seed + 31)
    searched = layer == subject.searched_layer(run)
    found = subject.found(run).evaluation.directions if searched else search_at(run, site(run, layer))
    random = random_directions(RANDOM_DIRECTIONS, readout.width, readout.centring, generator)
    # LayerNorm leaves d − 1 dimensions
    components = principal_components(readout, min(len(found), readout.width - 1))
    shuffled = search_at(run, subject.site_after(run, shuffled_model(run), layer))
    groups = (found, sae_group(run, layer).directions, random, components, shuffled)
    return {name: group.to(found) for name, group in zip(GROUPS, groups, strict=True)}


def _sae_group(run: Run, layer: int) -> SaeGroup:
    search_windows, held_out = language_readouts(site(run, layer))
    published = subject.published_sae(run, layer)
    if published is not None:
        alive = published.fires(itertools.chain(positions(search_windows), positions(held_out)))
        decoder, alive = published.decoder, alive & published.usable
        explained, active = published.explained(positions(held_out))
        description: dict[str, Any] = {
            "origin": "given by --sae", **published.description,
            "held_out_variance_explained": explained, "held_out_active": active, "dead": int((~alive).sum()),
        }  # fmt: skip
    else:
        options = default_options(held_out.width, quick=run.profile == "quick", seed=run.seed, device=held_out.device)
        trained = train_sae(search_windows, held_out, options, run.progress)
        decoder, alive = trained.autoencoder.directions, trained.alive
        description = {"origin": "trained here", **trained.to_json()}
    return SaeGroup(
        **_drawn(run, decoder, alive, held_out),
        description=description,
    )


def _drawn(run: Run, decoder: Tensor, alive: Tensor, readout: LanguageModelReadout) -> dict[str, Tensor]:
    """At most so many living latents, by the run's seed, as unit directions of what the norm sees."""
    seen = readout.centring.project(decoder.float())
    # what is parallel to the all-ones vector has no presence
    visible = seen.norm(dim=1) > 1e-4 * decoder.float().norm(dim=1)
    living = (alive.to(decoder.device) & visible).nonzero()[:, 0].cpu()
    if not len(living):
        raise InputError(
            expected="an autoencoder with latents that fire on this text",
            got=f"{len(decoder)} latents, all dead",
            remedy="pass --sae with an autoencoder of this model, or a longer --text",
        )
    generator = torch.Generator().manual_seed(run.seed + 37)
    most = QUICK_LATENTS if run.profile == "quick" else FULL_LATENTS
    latents = living[torch.randperm(len(living), generator=generator)[:most]].sort().values
    chosen = decoder[latents.to(decoder.device)].float()
    return {"latents": latents, "directions": unit_directions(chosen.to(readout.device), readout.centring)}
